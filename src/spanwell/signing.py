"""AWS Signature Version 4 with the credentials that botocore finds: environment, profile, container, instance, …"""

from __future__ import annotations

import os
import re

from spanwell._forks import whole
from spanwell._otel.exporting import suppressed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class SigningError(RuntimeError):
    """Nothing can be signed. The text continues a sentence about whoever wanted it: "needs boto3: …"."""


class Signer:
    """Signs requests to one AWS service.

    service: the name in the signature, such as xray. region: such as eu-west-1; without one, what botocore finds in
    AWS_REGION, AWS_DEFAULT_REGION, the profile, or on the EC2 instance.

    Making one costs nothing. botocore is imported and asked on first use, untraced, in the calling thread, which may
    take seconds (metadata services, STS): call it from a background thread. botocore renews what expires. In a forked
    child it starts afresh, since a lock of the parent's credentials may be held for ever there.
    """

    def __init__(self, service: str, region: str = "") -> None:
        self._service = service
        self._wanted = region
        self._found = ""
        self._session: Any = None
        self._process = 0

    @property
    def region(self) -> str:
        """The region that requests are signed for. Raises SigningError if there is none."""
        found = self._wanted or self._found
        if not found:
            with suppressed():
                found = self._found = _region(self._botocore())
        if not re.fullmatch(r"[a-z0-9-]{1,40}", found):  # it becomes a part of a host name
            raise SigningError(f"needs a region such as eu-west-1, not {found[:80]!r}")
        return found

    @property
    def cafile(self) -> str:
        """The CA file that AWS_CA_BUNDLE or the profile names, or ""."""
        with suppressed():
            return str(self._ask("ca_bundle") or "")

    def headers(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        """`headers` and those of the signature. The request must be sent as it is signed here, with the usual Host.

        Raises SigningError: no botocore, no region, no credentials, or credentials that cannot be renewed.
        """
        region = self.region
        with suppressed():
            credentials = self._credentials()
            with whole:
                from botocore.auth import SigV4Auth
                from botocore.awsrequest import AWSRequest

            request = AWSRequest(method=method, url=url, headers=dict(headers), data=body)
            SigV4Auth(credentials, self._service, region).add_auth(request)
            return {str(name): str(value) for name, value in request.headers.items()}

    def _credentials(self) -> Any:
        session = self._botocore()
        try:
            found = session.get_credentials()
            frozen = None if found is None else found.get_frozen_credentials()
        except Exception as error:  # a missing profile, an expired SSO login, STS that refuses, …
            raise SigningError(f"cannot get AWS credentials: {_line(error)}") from error
        if frozen is None or not frozen.access_key or not frozen.secret_key:
            raise SigningError(
                "finds no AWS credentials: give the process a role or a profile, or set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            )
        return frozen

    def _ask(self, variable: str) -> Any:
        session = self._botocore()
        try:
            return session.get_config_variable(variable)
        except Exception as error:
            raise SigningError(f"cannot read the AWS configuration: {_line(error)}") from error

    def _botocore(self) -> Any:
        if self._session is None or self._process != os.getpid():
            try:
                with whole:
                    from botocore.session import Session
            except ImportError:
                raise SigningError("needs boto3: pip install 'spanwell[aws]'") from None
            # botocore alone looks at AWS_DEFAULT_REGION only; every other AWS SDK takes AWS_REGION first.
            variables = {"region": ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"], None, None)}
            self._session, self._process = Session(session_vars=variables), os.getpid()
        return self._session


def _region(session: Any) -> str:
    try:
        found = session.get_config_variable("region")
        if not found:
            from botocore.utils import IMDSRegionProvider

            found = IMDSRegionProvider(session).provide()
    except Exception as error:
        raise SigningError(f"needs a region; set AWS_REGION ({_line(error)})") from error
    if not found:
        raise SigningError("needs a region: set AWS_REGION, or region in the AWS profile")
    return str(found)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
