"""Exporter `xray_api`: segment documents to X-Ray itself, by PutTraceSegments.

A request holds 50 documents at most; those of a trace leave together. What X-Ray names as unprocessed is sent again,
alone, if that can help.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Any, NamedTuple

from spanwell._children import in_child
from spanwell._guard import logger
from spanwell._otel.exporting import suppressed
from spanwell.export import aws_client
from spanwell.export.encoding import EncodingExporter, Sent
from spanwell.export.segment_resource import Parts
from spanwell.export.segments import finished
from spanwell.export.udp import by_trace
from spanwell.export.xray_udp import item_of, warn_if_old

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from spanwell.export.xray_udp import Item

MAX_DOCUMENTS = 50
MAX_REQUEST = 1_000_000
"""Bytes of a request: X-Ray documents no limit, so this is only what a slow link sends within a read timeout."""

_DENIED = "allow xray:PutTraceSegments, e.g. by the policy AWSXRayDaemonWriteAccess"
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 3.0


class Document(NamedTuple):
    """A document that waits: the number of its span in the batch, its segment id, its JSON."""

    span: int
    id: str
    text: str


class XRayApiExporter(EncodingExporter):
    """Sends to X-Ray in `region` (else the one that botocore finds), with the credentials that botocore finds.

    `client` makes botocore's client, at the first export. `seconds`: how long one `send` may take in all, attempts
    and the waits between them.
    """

    name = "xray_api"

    def __init__(
        self,
        region: str = "",
        *,
        seconds: float = 10.0,
        client: Callable[[], Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._make = client or (lambda: aws_client.make_client("xray", region=region))
        self._seconds = seconds
        self._clock = clock
        self._now = now
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """At the start, and in a forked child: connections and locks are the parent's."""
        self._client: Any = None
        self._parts = Parts()
        self._ending = threading.Event()

    def last_attempt(self) -> None:
        """The process ends: no more waiting between attempts."""
        self._ending.set()

    def encode(self, span: ReadableSpan) -> tuple[Item, int]:
        """The documents of `span` as far as its resource does not matter."""
        return item_of(span)

    def send(self, items: list[Any]) -> Sent:
        """PutTraceSegments until everything is taken, refused, or the time is over."""
        warn_if_old(items, self._now())
        deadline = self._clock() + self._seconds
        sending = _Sending()
        with suppressed():
            for request in requests(self._documents(by_trace(items), sending)):
                if sending.stopped:  # the next would fail in the same way
                    sending.lose(request, sending.reason)
                else:
                    self._put(request, deadline, sending)
        return sending.result()

    def _documents(self, items: list[Item], sending: _Sending) -> Iterator[list[Document]]:
        """The documents of one span after the other's."""
        for number, item in enumerate(items):
            try:
                part = self._parts(item.resource)
                texts = [finished(draft, part).decode("utf-8") for draft in item.drafts]
            except Exception as error:
                sending.lose([Document(number, "", "")], f"a span cannot be encoded: {error}")
            else:
                yield [Document(number, _id_of(text), text) for text in texts]

    def _put(self, request: list[Document], deadline: float, sending: _Sending) -> None:
        waiting, wait = request, _FIRST_WAIT
        while True:
            try:
                if self._client is None:
                    self._client = self._make()
                answer = self._client.put_trace_segments(TraceSegmentDocuments=[each.text for each in waiting])
                sending.reached = True
                waiting, reason = sending.unprocessed(waiting, answer.get("UnprocessedTraceSegments") or [])
            except Exception as error:
                logger.debug("spanwell: PutTraceSegments failed", exc_info=error)
                reason = aws_client.explain(error, denied=_DENIED)
                if aws_client.verdict(error) == aws_client.PERMANENT:
                    sending.fail(waiting, reason, error)
                    return
            if not waiting:
                return
            pause = wait * random.uniform(0.5, 1.0)
            if self._ending.is_set() or self._clock() + pause > deadline:
                sending.lose(waiting, reason)
                sending.stopped = True
                return
            self._ending.wait(pause)
            wait = min(2 * wait, _LONGEST_WAIT)


class _Sending:
    """What has become of a batch so far."""

    def __init__(self) -> None:
        self._lost: set[int] = set()
        self.reason = ""
        self.reached = False
        self.stopped = False

    def lose(self, documents: Iterable[Document], reason: str) -> None:
        """Give up the spans of `documents`."""
        self._lost.update(each.span for each in documents)
        self.reason = self.reason or reason

    def fail(self, documents: list[Document], reason: str, error: Exception) -> None:
        """The request was refused; unless that is about its content, all others will be."""
        self.lose(documents, reason)
        self.stopped = aws_client.error_code(error) not in ("InvalidRequestException", "InvalidRequest")
        self.reached = self.reached or not self.stopped

    def unprocessed(self, sent: list[Document], told: list[dict[str, Any]]) -> tuple[list[Document], str]:
        """(those of `sent` that are worth another attempt, why they need one)"""
        again: list[Document] = []
        known = {each.id: each for each in sent}
        reason = ""
        for each in told:
            code, said = str(each.get("ErrorCode") or ""), str(each.get("Message") or "")
            why = f"X-Ray did not process it: {code or 'no code'} {said[:200]}".rstrip()
            document = known.get(str(each.get("Id") or ""))
            if document is not None and aws_client.entry_verdict(code) != aws_client.PERMANENT:
                again.append(document)
                reason = reason or why
            elif document is not None:
                self.lose([document], why)
            else:  # X-Ray could not even read which it was: any that is not yet lost stands for it
                self.lose([one for one in sent if one.span not in self._lost][:1], why)
        return again, reason

    def result(self) -> Sent:
        return Sent(len(self._lost), self.reason, self.reached or not self._lost)


def requests(
    groups: Iterable[list[Document]], *, documents: int = MAX_DOCUMENTS, size: int = MAX_REQUEST
) -> Iterator[list[Document]]:
    """The documents as requests of at most `documents` and, unless one alone is longer, `size` bytes.

    A group, the documents of one span, is not torn apart.
    """
    request: list[Document] = []
    weight = 0
    for group in groups:
        more = sum(len(each.text.encode()) + 3 for each in group)
        if request and (len(request) + len(group) > documents or weight + more > size):
            yield request
            request, weight = [], 0
        request += group
        weight += more
    if request:
        yield request


def _id_of(text: str) -> str:
    """The id of a segment: no field before it is called `id`."""
    return text.partition('"id":"')[2][:16]
