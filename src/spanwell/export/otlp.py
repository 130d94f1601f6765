"""`otlp` over HTTP: spans as OTLP protobuf or JSON, over one connection, with OTLP's retries (docs/otlp.md)."""

from __future__ import annotations

import random
import threading
import time
from itertools import count

from spanwell import exchange
from spanwell._children import in_child
from spanwell._guard import warn_once
from spanwell._otel.exporting import root_cause, suppressed, without_credentials
from spanwell.export import otlp_answers, otlp_aws
from spanwell.export.encoding import EncodingExporter, Sent
from spanwell.export.otlp_http import NO_FILES, Channel, ProxyError, Reply, Trust, proxy_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan

MAX_REQUEST = 4 << 20
"""Bytes of a request before compression: what gRPC receivers, and so many collectors' pipelines, take at most."""

FIRST_PAUSE = 1.0
"""Seconds before the second attempt; it doubles from one to the next."""

_TYPES = {"protobuf": "application/x-protobuf", "json": "application/json"}
_SECRET = ("auth", "token", "key", "secret", "password", "cookie", "credential", "session")


class OtlpSpanExporter(EncodingExporter):
    """Posts spans to `url`, the whole address with its path, within `timeout` seconds a batch.

    encoding: "protobuf" or "json". compression: "none", "gzip" or "deflate". headers: of every request. insecure:
    credentials in headers or URL may go in plain text over a network. environ: where proxies are looked up.
    max_bytes: of a request before compression, beyond which a batch is split. aws: the AWS endpoint, if `url` does
    not tell by itself. problem: why nothing can be sent, in a line; then everything is lost for that reason.
    now: time.time(). jitter: a factor for each pause.
    """

    name = "spanwell_otlp"

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        compression: str = "none",
        encoding: str = "protobuf",
        trust: Trust = NO_FILES,
        insecure: bool = False,
        environ: Mapping[str, str] | None = None,
        max_bytes: int = MAX_REQUEST,
        aws: otlp_aws.Endpoint | None = None,
        problem: str = "",
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = lambda: random.uniform(0.8, 1.2),
    ) -> None:
        self.url = without_credentials(url)
        self._aws = aws or (None if problem else otlp_aws.aws_endpoint(url))
        self._compression = compression
        self._headers = _all_headers(url, headers or {}, encoding, compression)
        self._problem = problem or _header_problem(self._headers) or _plain_text_problem(url, self._headers, insecure)
        self._full_url, self._trust, self._environ = url, trust, environ or {}
        self._timeout = timeout
        self._max_bytes = min(max_bytes, otlp_aws.MAX_REQUEST) if self._aws else max_bytes
        self._now, self._jitter = now, jitter
        self._closed = self._sending = False
        self._channel: Channel | None = None
        self._ending = threading.Event()
        self._sign = self._signer()
        if encoding == "json":
            from spanwell.export import otlp_json as encoder
        else:
            from spanwell.export import otlp_protobuf as encoder  # type: ignore[no-redef]
        self._encode, self._requests, self._request = encoder.encode_span, encoder.requests, encoder.request
        in_child(self._after_fork)

    def _after_fork(self) -> None:
        """In the child: the connection is the parent's, and a lock may be held by a thread that is gone."""
        if self._channel is not None:
            self._channel.abandon()
        self._channel = None
        self._sending = False
        self._ending = threading.Event()
        if self._closed:
            self._ending.set()

    def _signer(self) -> Callable[[str, bytes, Mapping[str, str]], dict[str, str]] | None:
        # Who brings a credential of their own, such as a bearer token, needs no signature.
        if self._aws is None or "authorization" in self._headers:
            return None
        return otlp_aws.request_signer(self._aws)

    # --- spans ----------------------------------------------------------------------------------------------------

    def encode(self, span: ReadableSpan) -> tuple[Any, int]:
        """(resource, scope, encoded span), or with the start for AWS, and its bytes. Raises ValueError."""
        encoded = self._encode(span)
        if self._aws is None:
            return (span.resource, span.instrumentation_scope, encoded), len(encoded)
        start = otlp_aws.checked_start(span, self._now())
        if len(encoded) > otlp_aws.MAX_SPAN:
            encoded = otlp_aws.shortened(span, self._encode)
        return (span.resource, span.instrumentation_scope, encoded, start), len(encoded)

    def send(self, items: list[Any]) -> Sent:
        """Deliver, with OTLP's retries, within the timeout. Does not raise for what a server or a network does."""
        if self._closed:
            return Sent(len(items), "the exporter is shut down", False)
        problem = self._problem or _file_problem(self._trust)
        if problem:
            return Sent(len(items), problem, False)
        self._sending = True
        try:
            with suppressed():
                return self._all(items, time.monotonic() + min(self._timeout, self.time_left))
        finally:
            self._sending = False
            if self._closed and self._channel is not None:
                self._channel.close()

    def _all(self, items: list[Any], deadline: float) -> Sent:
        left, lost, why, taken = len(items), 0, "", False
        for body, parts in self._split(items):
            sent = self._deliver(body, parts, deadline)
            left -= len(parts)
            lost += sent.lost
            why = why or sent.reason
            taken = taken or sent.reached
            if not sent.reached:  # what is left would meet the same end
                return Sent(lost + left, why, taken)
        return Sent(lost, why, True)

    def _split(self, items: list[Any]) -> Iterator[tuple[bytes, Sequence[Any]]]:
        """Requests, with the items in each."""
        groups = otlp_aws.groups(items) if self._aws is not None else (items,)
        for group in groups:
            yield from self._requests(group, max_bytes=self._max_bytes)

    def _deliver(self, body: bytes, items: Sequence[Any], deadline: float, halve: bool = True) -> Sent:
        number = len(items)
        reply = self._attempts(body, deadline)
        if isinstance(reply, str):
            return Sent(number, reply, False)
        if 200 <= reply.status < 300:
            return self._partial(reply, number)
        if reply.status == 413 and halve and number > 1:
            halves = [items[: number // 2], items[number // 2 :]]
            sent = [
                self._deliver(*each, deadline, halve=False)
                for half in halves
                for each in self._requests(half, max_bytes=self._max_bytes)
            ]
            reasons = [each.reason for each in sent if each.reason]
            return Sent(sum(each.lost for each in sent), reasons[0] if reasons else "", any(e.reached for e in sent))
        if reply.status == 403 and self._sign is not None:  # credentials may have been renewed where botocore reads
            self._sign = self._signer()
        reason = self._refusal(reply)
        # Of these the request may be to blame, and the next may do better.
        return Sent(number, reason, reply.status in (400, 413, 422) and otlp_aws.TRANSACTION_SEARCH_OFF not in reason)

    def _partial(self, reply: Reply, number: int) -> Sent:
        rejected, said = otlp_answers.partial_success(reply.headers, reply.body)
        rejected = max(0, min(rejected, number))
        if rejected:
            return Sent(rejected, f"it rejected {rejected} of {number} spans{f': {said}' if said else ''}")
        if said:
            warn_once(
                f"said:otlp:{said[:40]}", "spanwell: exporter otlp: %s took the spans and says: %s", self.url, said
            )
        return Sent()

    # --- one request ----------------------------------------------------------------------------------------------

    def _attempts(self, body: bytes, deadline: float) -> Reply | str:
        """The final answer to one request, or why there is none."""
        packed = _packed(body, self._compression)
        for attempt in count():
            pause = FIRST_PAUSE * 2**attempt * self._jitter()
            try:
                begun = time.monotonic()
                headers = self._signed(packed)
                deadline += time.monotonic() - begun  # botocore is imported at the first, and looks around
                reply = self._open().post(packed, headers, deadline)
            except Exception as error:
                again, reason = _cause(error)
                if not again:
                    return reason
            else:
                if reply.status not in otlp_answers.RETRYABLE:
                    return reply
                reason = self._refusal(reply)
                asked = otlp_answers.retry_after(reply.headers, self._now())
                pause = pause if asked is None else asked
            if self._ending.is_set() or time.monotonic() + pause >= deadline or self._ending.wait(pause):
                return reason
        raise AssertionError

    def _open(self) -> Channel:
        if self._channel is None:
            proxy = proxy_for(self._full_url, self._environ)
            self._channel = Channel(self._full_url, trust=self._trust, proxy=proxy)
        return self._channel

    def _signed(self, body: bytes) -> Mapping[str, str]:
        return self._headers if self._sign is None else self._sign(self.url, body, self._headers)

    def _refusal(self, reply: Reply) -> str:
        """What was answered, in a line, with the remedy where it is known."""
        line = f"it answers {reply.status} {reply.phrase}".rstrip()
        if self._aws is not None:
            told = otlp_aws.explain(self._aws, reply.status, reply.headers, reply.body, self._now())
            if told:
                return f"{line}: {told}"
        if 300 <= reply.status < 400 and "location" in reply.headers:
            line += (
                f", to {otlp_answers.clean(without_credentials(reply.headers['location']))}, which is not followed"
            )
        said = otlp_answers.message(reply.headers, reply.body)
        return f"{line}: {said}" if said else line

    def probe(self, seconds: float) -> tuple[int, str]:
        """The status of the answer to a request without spans, and what it says, in a line. Raises as `Channel.post`
        does, SigningError, and ValueError if nothing can be sent."""
        problem = self._problem or _file_problem(self._trust)
        if problem:
            raise ValueError(problem)
        body = _packed(self._request([]), self._compression)
        with suppressed():
            headers = self._signed(body)
            channel = self._open()
            try:
                reply = channel.post(body, headers, time.monotonic() + seconds)
            finally:
                channel.close()
        return reply.status, self._refusal(reply)

    # --- the end --------------------------------------------------------------------------------------------------

    def last_attempt(self) -> None:
        """The process ends: no more waiting between attempts, neither now nor later."""
        self._ending.set()

    def shutdown(self) -> None:
        """Close the connection; what is sent from now on is lost. A request under way closes it when it ends."""
        self._closed = True
        self._ending.set()
        if self._channel is not None and not self._sending:
            self._channel.close()


def _all_headers(url: str, headers: Mapping[str, str], encoding: str, compression: str) -> dict[str, str]:
    from spanwell import __version__

    made = {"user-agent": f"spanwell/{__version__}"}
    # As bytes of UTF-8: the head of a request is sent as Latin-1.
    made |= {k.lower(): v.encode("utf-8", "surrogateescape").decode("latin-1") for k, v in headers.items()}
    made["content-type"] = _TYPES[encoding]
    if compression != "none":
        made["content-encoding"] = compression
    authority = url.partition("://")[2].partition("/")[0]
    if "@" in authority and "authorization" not in made:
        from base64 import b64encode
        from urllib.parse import unquote

        user, _, password = authority.rpartition("@")[0].partition(":")
        both = f"{unquote(user)}:{unquote(password)}".encode("utf-8", "surrogateescape")
        made["authorization"] = f"Basic {b64encode(both).decode()}"
    return made


def _header_problem(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if not name.isascii() or not name.isprintable() or any(c < " " and c != "\t" for c in value):
            return f"OTEL_EXPORTER_OTLP_HEADERS: the header {otlp_answers.clean(name)!r} is none that HTTP can carry"
    return ""


def _plain_text_problem(url: str, headers: Mapping[str, str], insecure: bool) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "the endpoint is no URL"
    if insecure or parts.scheme == "https" or exchange.is_loopback(host):
        return ""
    if otlp_aws.aws_endpoint(url):
        return f"{without_credentials(url)} would be sent credentials in plain text: use https://"
    secret = next((name for name in headers if any(word in name for word in _SECRET)), "")
    if not secret:
        return ""
    return (
        f"the credentials in {secret!r} are not sent in plain text to {host}: use https://, or set"
        " OTEL_EXPORTER_OTLP_INSECURE=true if the network may see them"
    )


def _file_problem(trust: Trust) -> str:
    import os

    for kind, path in zip(("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"), trust, strict=True):
        if path and not os.access(path, os.R_OK):
            return f"OTEL_EXPORTER_OTLP_{kind}={path!r} cannot be read"
    if trust.keyfile and not trust.certfile:
        return "OTEL_EXPORTER_OTLP_CLIENT_KEY is set without OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
    return ""


def _packed(body: bytes, compression: str) -> bytes:
    """Level 1: half the default's time, for 5 % more bytes (docs/otlp.md)."""
    if compression == "none":
        return body
    import zlib

    packer = zlib.compressobj(1, zlib.DEFLATED, 31 if compression == "gzip" else zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def _cause(error: Exception) -> tuple[bool, str]:
    """Whether to try again, and the reason in a line."""
    from spanwell.signing import SigningError

    if isinstance(error, SigningError):
        return False, f"signing {error}"
    kind = type(error).__name__
    if kind == "SSLCertVerificationError":
        said = getattr(error, "verify_message", "") or str(error)
        return False, (
            f"its certificate is not trusted ({said}): set OTEL_EXPORTER_OTLP_CERTIFICATE to the file of its CA"
        )
    if isinstance(error, ProxyError) or (isinstance(error, ConnectionError) and not error.strerror):
        return True, str(error)
    if kind.startswith("SSL"):
        return _cause_in_tls(str(error))
    if isinstance(error, OSError):
        return True, root_cause(error)
    return False, " ".join(str(error).split())[:300] or kind


def _cause_in_tls(said: str) -> tuple[bool, str]:
    if "WRONG_VERSION_NUMBER" in said or "record layer" in said.lower():
        return False, "it does not speak TLS: use http:// or another port"
    if any(mark in said for mark in ("PEM", "X509", "KEY_VALUES_MISMATCH", "NO_CERTIFICATE_OR_CRL")):
        return False, (
            f"the files of OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE or _CLIENT_KEY are of no use: {said}"
        )
    if "CERTIFICATE_REQUIRED" in said or "HANDSHAKE_FAILURE" in said:
        return False, f"it wants another client certificate (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE): {said}"
    return True, said
