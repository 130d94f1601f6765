"""The X-Ray sampling API: through the X-Ray daemon, the CloudWatch agent or the collector, or signed, without any."""

from __future__ import annotations

import json
import time

from spanwell import exchange
from spanwell._otel.exporting import root_cause, suppressed
from spanwell.signing import Signer, SigningError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

AWS = "aws"
"""The endpoint that stands for X-Ray itself, in the region of this process."""

MAX_BYTES = 1 << 20
"""Of one answer."""

MAX_PAGES = 50
MAX_ALL = 4 << 20
"""Bytes of all pages together."""


class ClientError(Exception):
    """A call failed: one line. `status` is the HTTP status, 0 where there was no answer or no usable one."""

    def __init__(self, line: str, status: int = 0) -> None:
        super().__init__(line)
        self.status = status


def check_endpoint(raw: str) -> str:
    """`raw` as an endpoint: "aws", or a URL with its scheme and without a slash at the end.

    Raises ValueError, whose text says what is wanted.
    """
    from urllib.parse import urlsplit

    if raw.lower() == AWS:
        return AWS
    url = (raw if "://" in raw else f"http://{raw}").rstrip("/")
    wanted = "aws, or an address such as http://127.0.0.1:2000"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is no port
    except ValueError:
        raise ValueError(wanted) from None
    clean = url.isascii() and url.isprintable() and " " not in url
    if not clean or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(wanted)
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{wanted}, without user, query or fragment")
    return url


class SamplingClient:
    """Calls GetSamplingRules and GetSamplingTargets. Nothing is connected between calls, and no call is traced.

    endpoint: "http://host:port" of what signs for us, or "aws": then this process signs (`spanwell.signing`) for
    `region`, or the region that botocore finds. seconds: for a whole call, all pages included; resolving a host name
    and finding AWS credentials come on top. url: where "aws" is, instead of https://xray.<region>.amazonaws.com.
    Raises ValueError for an endpoint that is none.
    """

    def __init__(self, endpoint: str, *, seconds: float = 5.0, region: str = "", url: str = "") -> None:
        self.endpoint = check_endpoint(endpoint)
        self._seconds = seconds
        self._signer = Signer("xray", region) if self.endpoint == AWS else None
        self._url = url.rstrip("/") if self._signer else self.endpoint
        self._closed = False

    def rules(self, report: Callable[[str], object], *, seconds: float | None = None) -> list[object]:
        """Every SamplingRuleRecord of all pages, unchecked.

        `report` takes a line about an answer that is odd and yet complete. Raises ClientError on any failure: a part
        of the rules is worse than the rules from before.
        """
        deadline = time.monotonic() + (self._seconds if seconds is None else seconds)
        records: list[object] = []
        seen: set[str] = set()
        request: dict[str, Any] = {}
        size = 0
        for _ in range(MAX_PAGES):
            page, length = self._post("GetSamplingRules", request, deadline)
            found = page.get("SamplingRuleRecords")
            if not isinstance(found, list):
                raise ClientError(self._said("GetSamplingRules", "the answer has no list SamplingRuleRecords"))
            records += found
            token = page.get("NextToken")
            if token is not None and not isinstance(token, str):
                report(self._said("GetSamplingRules", f"NextToken is {str(token)[:80]!r}, no text; no page follows"))
            if not token or not isinstance(token, str):
                return records
            if token in seen:
                raise ClientError(self._said("GetSamplingRules", "the pages have no end: a NextToken came twice"))
            size += length
            if size > MAX_ALL:
                break
            seen.add(token)
            request = {"NextToken": token}
        raise ClientError(self._said("GetSamplingRules", f"more than {MAX_PAGES} pages or {MAX_ALL} bytes"))

    def targets(
        self,
        statistics: Sequence[Mapping[str, Any]],
        boosts: Sequence[Mapping[str, Any]] = (),
        *,
        seconds: float | None = None,
    ) -> Mapping[str, Any]:
        """The answer to one request with at most 25 documents of each kind. Raises ClientError on any failure."""
        deadline = time.monotonic() + (self._seconds if seconds is None else seconds)
        request = {"SamplingStatisticsDocuments": list(statistics)}
        if boosts:
            request["SamplingBoostStatisticsDocuments"] = list(boosts)
        return self._post("SamplingTargets", request, deadline)[0]

    def close(self) -> None:
        """No further call is made; one under way ends within its time."""
        self._closed = True

    def _post(self, call: str, document: Mapping[str, Any], deadline: float) -> tuple[dict[str, Any], int]:
        """The object that was answered, and the length of its text."""
        if self._closed:
            raise ClientError(self._said(call, "the client is closed"))
        body = json.dumps(document, separators=(",", ":")).encode()
        with suppressed():
            try:
                answer = self._send(call, body, deadline)
            except SigningError as error:
                raise ClientError(f"endpoint=aws {error}") from error
            except (OSError, ValueError) as error:
                raise ClientError(self._said(call, _cause(error))) from error
        if answer.status != 200:
            raise ClientError(self._said(call, f"status {answer.status}{_message(answer)}"), answer.status)
        try:
            found = _read(answer.body)
        except (ValueError, RecursionError):
            raise ClientError(self._said(call, f"the answer is not JSON: {_clean(answer.body)!r}")) from None
        if not isinstance(found, dict):
            raise ClientError(self._said(call, "the answer is JSON, but no object"))
        return found, len(answer.body)

    def _send(self, call: str, body: bytes, deadline: float) -> exchange.Answer:
        headers, cafile = {"Content-Type": "application/json"}, ""
        if self._signer is not None:
            started = time.monotonic()
            if not self._url:
                self._url = _address(self._signer.region)
            headers = self._signer.headers("POST", f"{self._url}/{call}", body, headers)
            cafile = self._signer.cafile
            deadline += time.monotonic() - started  # the first time botocore is imported and looks around
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return exchange.send(
            "POST", f"{self._url}/{call}", body, headers, seconds=left, max_bytes=MAX_BYTES, cafile=cafile
        )

    def _said(self, call: str, what: str) -> str:
        return f"{self._url or self.endpoint}/{call}: {what}"


def _address(region: str) -> str:
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://xray.{region}.{domain}"


def _read(body: bytes) -> object:
    return json.loads(body.decode("utf-8-sig"), parse_int=_whole)


def _whole(digits: str) -> int:
    if len(digits) > 30:  # before Python 3.11 a million digits take a second, during which nothing else runs
        raise ValueError("a number of that many digits")
    return int(digits)


def _cause(error: Exception) -> str:
    return root_cause(error) if isinstance(error, OSError) else " ".join(str(error).split())[:300]


def _message(answer: exchange.Answer) -> str:
    """What the service says about its refusal, as far as it does."""
    try:
        document = _read(answer.body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        kind = answer.headers.get("x-amzn-errortype") or document.get("__type") or ""
        said = document.get("message") or document.get("Message") or ""
        parts = [_clean(str(part)) for part in (str(kind).partition(":")[0].rpartition("#")[2], said) if part]
    else:
        parts = [said] if (said := _clean(answer.body)) else []
    return "".join(f": {part}" for part in parts)


def _clean(text: str | bytes) -> str:
    """The start of a foreign text, fit for one line of a log."""
    start = text[:400].decode("utf-8", "replace") if isinstance(text, bytes) else text[:400]
    return " ".join("".join(each if each.isprintable() else " " for each in start).split())[:200]
