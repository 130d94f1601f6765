"""AWS's own OTLP endpoints: whose they are, what they take, how requests are signed, what their refusals mean."""

from __future__ import annotations

from typing import NamedTuple

from spanwell.export import otlp_answers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan

    from spanwell.signing import Signer

# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch-OTLPEndpoint.html, for traces
MAX_SPANS = 10_000
MAX_REQUEST = 4_900_000
"""Bytes uncompressed: 5 MB, with room for what frames the spans."""

MAX_SPAN = 200_000
PAST = 14 * 86_400
FUTURE = 2 * 3600
APART = 24 * 3600
"""Seconds: the ages of spans that are taken, and how far apart those of one request may be."""

_SUFFIXES = (
    *(".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"),
    *(".api.aws", ".api.amazonwebservices.com.cn", ".api.amazonwebservices.eu"),
)
_SERVICES = ("xray", "logs", "monitoring")
_ALLOW = {
    "xray": "allow xray:PutSpans, xray:PutSpansForIndexing and xray:PutTraceSegments",
    "logs": "allow logs:PutLogEvents",
    "monitoring": "allow cloudwatch:PutMetricData",
}
_NO_LOGS = "Trace Segment Destination"
"""In the answer of an account whose spans do not go to CloudWatch Logs."""

TRANSACTION_SEARCH_OFF = "Transaction Search is off"
"""In our own line about it."""


class Endpoint(NamedTuple):
    """service: as its signatures name it, "xray". region: as the host's name has it, "eu-west-1"."""

    service: str
    region: str


def aws_endpoint(url: str) -> Endpoint | None:
    """Whose OTLP endpoint `url` is: ``xray``, ``logs`` or ``monitoring`` of a region; None if it is not AWS's.

    All partitions, dual-stack (``xray.<region>.api.aws``), FIPS (``xray-fips.…``) and VPC endpoints
    (``vpce-….xray.<region>.vpce.amazonaws.com``).
    """
    from urllib.parse import urlsplit

    try:
        host = (urlsplit(url).hostname or "").lower()
    except ValueError:
        return None
    for suffix in _SUFFIXES:
        if host.endswith(suffix):
            labels = host.removesuffix(suffix).removesuffix(".vpce").split(".")
            break
    else:
        return None
    service = labels[-2].removesuffix("-fips") if len(labels) > 1 else ""
    region = labels[-1]
    return Endpoint(service, region) if service in _SERVICES and region.count("-") >= 2 else None


def request_signer(endpoint: Endpoint) -> Callable[[str, bytes, Mapping[str, str]], dict[str, str]]:
    """A function (url, body, headers) -> all headers of a signed POST. It raises signing.SigningError.

    Credentials come from botocore's chain and are renewed by it. Call it in a background thread.
    """
    from spanwell.signing import Signer

    signer: Signer = Signer(*endpoint)

    def sign(url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        return signer.headers("POST", url, body, headers)

    return sign


def checked_start(span: ReadableSpan, now: float) -> int:
    """When `span` started, in nanoseconds. Raises ValueError if the endpoint refuses spans of that age."""
    start = span.start_time or 0
    age = now - start / 1e9
    if age > PAST:
        raise ValueError(f"it started {age / 86_400:.0f} days ago, and X-Ray takes no span older than 14 days")
    if -age > FUTURE:
        raise ValueError(f"it starts {-age / 3600:.1f} hours from now, and X-Ray takes at most 2: check the clock")
    return start


def shortened(span: ReadableSpan, encode: Callable[[ReadableSpan], bytes]) -> bytes:
    """`span` encoded, with its longest texts cut so that it is taken. Raises ValueError if that does not do."""
    for limit in (16_384, 4096, 1024, 256):
        encoded = encode(_with_short_texts(span, limit))
        if len(encoded) <= MAX_SPAN:
            return encoded
    raise ValueError(f"it has {len(encoded)} bytes with all texts cut to {limit} characters; X-Ray takes {MAX_SPAN}")


def _with_short_texts(span: ReadableSpan, limit: int) -> ReadableSpan:
    from copy import copy

    from spanwell._otel.spans import event_with, replace_attributes, replace_events

    def short(value: Any) -> Any:
        if isinstance(value, str):
            return value if len(value) <= limit else value[: limit - 1] + "…"
        return [short(each) for each in value] if isinstance(value, list | tuple) else value

    def all_short(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
        return {key: short(value) for key, value in (attributes or {}).items()}

    made = copy(span)
    replace_attributes(made, all_short(span.attributes))
    replace_events(made, [event_with(each, each.name, all_short(each.attributes)) for each in span.events])
    return made


def groups(items: list[Any]) -> Iterator[list[tuple[Any, ...]]]:
    """`items` (resource, scope, bytes, start) without their start, as many together as one request may hold."""
    starts = [item[3] for item in items]
    apart = max(starts) - min(starts) > APART * 10**9
    days: dict[int, list[tuple[Any, ...]]] = {}
    for item in items:
        days.setdefault(item[3] // (APART * 10**9) if apart else 0, []).append(item[:3])
    for day in days.values():
        for first in range(0, len(day), MAX_SPANS):
            yield day[first : first + MAX_SPANS]


def explain(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes, now: float) -> str:
    """What a refusal of `endpoint` means and what to do about it, or "" if there is no more to say."""
    said = otlp_answers.message(headers, body)
    if _NO_LOGS in said:
        return (
            f"{TRANSACTION_SEARCH_OFF} in {endpoint.region}: switch it on in CloudWatch, or with "
            "`aws xray update-trace-segment-destination --destination CloudWatchLogs` (docs/otlp.md)"
        )
    if status not in (401, 403):
        return ""
    from spanwell.export import aws_client

    code = otlp_answers.error_type(headers, body) or _code(said)
    line = aws_client.explain(_Refused(code, said), denied=_allow(endpoint, said))
    if "clock" in line:
        line += _skew(headers, now)
    return line


def _code(said: str) -> str:
    """An answer in protobuf has no code: the one that the same text has elsewhere."""
    if "ignature expired" in said or "not yet current" in said:
        return "InvalidSignatureException"
    if "token" in said and "expired" in said:
        return "ExpiredTokenException"
    if "token" in said and "invalid" in said:
        return "UnrecognizedClientException"
    if "Missing Authentication" in said:
        return "MissingAuthenticationTokenException"
    return "SignatureDoesNotMatch" if "signature we calculated" in said else "AccessDeniedException"


def _allow(endpoint: Endpoint, said: str) -> str:
    _, _, rest = said.partition("to perform: ")
    action = rest.split(" ")[0].strip(".,")
    return f"allow {action} in the role's policy" if ":" in action else _ALLOW[endpoint.service]


def _skew(headers: Mapping[str, str], now: float) -> str:
    theirs = otlp_answers.http_date(headers.get("date", ""))
    return "" if theirs is None or abs(now - theirs) < 2 else f"; it is {now - theirs:+.0f} s off"


class _Refused(Exception):
    """An answer as botocore would have raised it."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(said)
        self.response = {"Error": {"Code": code, "Message": said}}
