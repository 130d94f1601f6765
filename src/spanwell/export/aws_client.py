"""botocore's clients as the exporters use them, and what their errors mean to a user.

One attempt a call within seconds: how often and when to try again is the exporter's own affair, because it must end
with the process. Nothing is imported before the first client is made.
"""

from __future__ import annotations

from spanwell._forks import whole
from spanwell._otel.exporting import quiet_exporters
from spanwell.analysis.names import THROTTLES
from spanwell.exchange import is_loopback
from spanwell.signing import Signer, SigningError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CONNECT_SECONDS = 3.0
READ_SECONDS = 5.0

_NO_BOTO3 = "needs boto3: pip install 'spanwell[aws]'"
_NO_CREDENTIALS = (
    "finds no AWS credentials: give the process a role or a profile, or set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY"
)
_EXPIRED = "the AWS credentials have expired: renew them (`aws sso login`, a new role session), then restart"
_SKEW = "the clock of this machine is wrong, so AWS refuses its signatures: set it (chrony, NTP)"
_UNKNOWN = (
    "AWS does not know these credentials: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and that "
    "the region belongs to the account"
)

_DENIED_CODES = frozenset(
    ("AccessDenied", "AccessDeniedException", "AuthorizationError", "NotAuthorized", "UnauthorizedOperation")
)
_EXPIRED_CODES = frozenset(("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"))
_SKEW_CODES = frozenset(("RequestTimeTooSkewed", "RequestInTheFuture"))
_UNKNOWN_CODES = frozenset(
    (
        *("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "MissingAuthenticationToken"),
        *("MissingAuthenticationTokenException", "IncompleteSignature", "IncompleteSignatureException"),
        *("InvalidSignatureException", "SignatureDoesNotMatch", "OptInRequired", "NotSignedUp"),
    )
)
# Codes of the services' own troubles that come with a status below 500, or within an answer of 200.
_TRANSIENT_CODES = frozenset(
    (
        *("InternalFailure", "InternalFailureException", "InternalServerError", "InternalServerErrorException"),
        *("ServiceUnavailable", "ServiceUnavailableException", "RequestTimeout", "RequestTimeoutException"),
    )
)
_THROTTLE_CODES = THROTTLES | {"KMSThrottlingException", "ThrottlingError"}
# Classes of botocore.exceptions, by name: importing them is not needed to know them.
_SET_UP = frozenset(
    (
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
        *("SSOError", "LoginError", "NoAuthTokenError", "ProfileNotFound", "ConfigNotFound", "ConfigParseError"),
        *("InvalidConfigError", "NoRegionError", "InvalidRegionError", "UnknownRegionError", "EndpointProviderError"),
        *("BaseEndpointResolverError", "ParamValidationError", "ServiceNotInRegionError", "SigningError"),
        *("UnknownServiceError", "DataNotFoundError", "InvalidProxiesConfigError", "ImportError", "TypeError"),
    )
)
_BAD_CREDENTIALS = frozenset(
    ("SSOError", "LoginError", "TokenRetrievalError", "CredentialRetrievalError", "PartialCredentialsError")
)

PERMANENT, THROTTLED, TRANSIENT = "permanent", "throttled", "transient"


def make_client(service: str, *, region: str = "", **config: Any) -> Any:
    """botocore's client of `service` (botocore's name, e.g. ``kinesis``): one attempt a call, seconds at most.

    `region` overrides the one that botocore finds (AWS_REGION, profile, instance metadata). botocore itself honours
    AWS_ENDPOINT_URL_<SERVICE>. `config`: further arguments of botocore.config.Config. Raises SigningError, whose text
    continues a sentence ("needs boto3: …"), and what botocore raises. May ask metadata services: background threads.
    """
    # The import may let botocore's instrumentor ask for meters, while the process ends.
    with quiet_exporters(("opentelemetry.sdk.metrics._internal",)):
        found = Signer(service, region).region  # may ask a metadata service: no fork is to wait for it
        with whole:
            from botocore.config import Config
            from botocore.session import Session

            timeouts = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
            chosen = Config(**{**timeouts, "retries": {"total_max_attempts": 1}, **config})
            client = Session().create_client(service, region_name=found, config=chosen)
    refuse_plain_text(client.meta.endpoint_url)
    return client


def refuse_plain_text(url: str) -> None:
    """Raise SigningError if `url` would carry credentials and spans over a network in plain text."""
    with whole:
        from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or is_loopback(host):
        return
    raise SigningError(f"sends no credentials to {host} in plain text: use https:// (AWS_ENDPOINT_URL), or loopback")


def error_code(error: BaseException) -> str:
    """The code of an answer of AWS, such as ``AccessDeniedException``, or ""."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return ""
    return str((response.get("Error") or {}).get("Code", ""))


def status_code(error: BaseException) -> int:
    """The HTTP status of an answer of AWS, or 0."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return 0
    found = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode", 0)
    return found if isinstance(found, int) else 0


def verdict(error: BaseException) -> str:
    """Whether to try again: THROTTLED (later, and less), TRANSIENT (later), PERMANENT (it would fail again)."""
    if error_code(error):
        return entry_verdict(error_code(error), status_code(error))
    return PERMANENT if _kinds(error) & _SET_UP else TRANSIENT


def entry_verdict(code: str, status: int = 0) -> str:
    """`verdict` of the error code of one entry in a batch."""
    if code in _THROTTLE_CODES or status == 429:
        return THROTTLED
    return TRANSIENT if code in _TRANSIENT_CODES or status >= 500 else PERMANENT


def explain(error: BaseException, *, missing: str = "", denied: str = "") -> str:
    """One line for a user: what is wrong, and what to do about it. It continues "… did not reach X: ".

    `missing` says what to do when the table, stream or log group is not there, `denied` when access is refused,
    e.g. "allow kinesis:PutRecords".
    """
    code = error_code(error)
    if code:
        return _explain_answer(error, code, missing, denied)
    kinds = _kinds(error)
    said = one_line(error)
    if "NoCredentialsError" in kinds:
        return _NO_CREDENTIALS
    if kinds & _BAD_CREDENTIALS:
        return f"cannot get AWS credentials: {said}"
    if kinds & {"NoRegionError", "InvalidRegionError", "UnknownRegionError"}:
        return f"needs a region such as eu-west-1; set AWS_REGION ({said})"
    if kinds & {"ModuleNotFoundError"} and "boto" in said:
        return _NO_BOTO3
    if kinds & {"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"}:
        return f"{said.rstrip('.')}: check the region, the network (VPC endpoint, proxy) and AWS_ENDPOINT_URL"
    if "SSLError" in kinds:
        return f"{said.rstrip('.')}: check AWS_CA_BUNDLE and the certificate"
    return said


def _explain_answer(error: BaseException, code: str, missing: str, denied: str) -> str:
    said = _message(error)
    if code in _SKEW_CODES or ("ignature" in said and ("expired" in said or "not yet current" in said)):
        return f"{code}: {_SKEW}"
    if code in _EXPIRED_CODES or "token included in the request is expired" in said:
        return f"{code}: {_EXPIRED}"
    if code in _UNKNOWN_CODES:
        return f"{code}: {_UNKNOWN}"
    remedy = ""
    if code in _DENIED_CODES or "AccessDenied" in code:
        remedy = denied
    elif code.startswith(("ResourceNotFound", "NoSuch")):
        remedy = missing
    line = f"{code}: {said}".rstrip(": .")
    return f"{line} ({remedy})" if remedy else line


def _message(error: BaseException) -> str:
    response: Any = getattr(error, "response", {})
    return " ".join(str((response.get("Error") or {}).get("Message", "")).split())[:300]


def one_line(error: BaseException) -> str:
    """The text of `error` in one line of at most 300 characters, or its class."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _kinds(error: BaseException) -> set[str]:
    return {each.__name__ for each in type(error).__mro__}
