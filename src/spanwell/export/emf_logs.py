"""EMF documents to a log group of CloudWatch Logs, by PutLogEvents."""

from __future__ import annotations

import os
import time

from spanwell.export import aws_client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from spanwell.export.emf_documents import Document

_MAX_EVENTS = 10_000
_MAX_BYTES = 1_048_576
_EVENT_BYTES = 26
_MAX_SPAN_MS = 23 * 3600 * 1000  # of 24 h
_MISSING = "ResourceNotFoundException"
_PRESENT = "ResourceAlreadyExistsException"
_TAKEN = "DataAlreadyAcceptedException"
_REFUSED = frozenset(("InvalidParameterException", "ValidationException", "SerializationException"))


class Logs:
    """Writes to `group`, in the log stream `stream` or one for each process, which is made. See `emf.Sink`.

    create_group: make the group too, without a limit on how long it keeps events. client: makes botocore's client, at
    the first export. seconds: of one export in all, beside what the last request takes.
    """

    max_bytes = 200_000  # of 1 MB; of 256 kB in older partitions

    def __init__(
        self,
        group: str,
        stream: str = "",
        *,
        create_group: bool = False,
        client: Callable[[], Any] | None = None,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.destination = f"CloudWatch Logs ({group})"
        self.missing = f"create the log group {group} in this region, or set SPANWELL_EMF_CREATE_LOG_GROUP=true"
        create = ", logs:CreateLogGroup" if create_group else ""
        self.denied = f"allow logs:PutLogEvents and logs:CreateLogStream{create} on {group}"
        self._group = group
        self._wanted = stream
        self._create_group = create_group
        self._make = client or make_client
        self._seconds = seconds
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """At the start, and in a forked child: the connection and the stream are the parent's."""
        self._client: Any = None
        self._stream = ""

    def write(self, waiting: deque[Document], refused: Callable[[int, object], object]) -> None:
        """Put what waits, in requests within the limits."""
        deadline = self._clock() + self._seconds
        if self._client is None:
            self._client = self._make()
        # PutLogEvents takes events in the order of time alone.
        ordered = sorted(waiting, key=lambda document: document.time_ms)
        waiting.clear()
        waiting.extend(ordered)
        for batch in batches(ordered):
            if self._clock() >= deadline:
                raise TimeoutError("it is too slow")
            self._put(batch, refused)
            for _ in batch:
                waiting.popleft()

    def _put(self, batch: Sequence[Document], refused: Callable[[int, object], object]) -> None:
        try:
            answer = self._put_events(batch)
        except Exception as error:
            code = aws_client.error_code(error)
            if code == _TAKEN:
                return
            if code not in _REFUSED:
                raise
            refused(sum(document.metrics for document in batch), error)
            return
        told = answer.get("rejectedLogEventsInfo") or {}
        ends = [told[name] for name in ("tooOldLogEventEndIndex", "expiredLogEventEndIndex") if name in told]
        late = max(1, *ends) if ends else 0
        early = told.get("tooNewLogEventStartIndex", len(batch))
        left_out = sum(document.metrics for document in [*batch[:late], *batch[max(late, early) :]])
        if left_out:
            refused(left_out, f"events that are too old or too new: {told}; check the clock")

    def _put_events(self, batch: Sequence[Document]) -> Any:
        events = [{"timestamp": each.time_ms, "message": each.line.decode("ascii")} for each in batch]
        if not self._stream:
            self._create_stream()
        try:
            return self._client.put_log_events(logGroupName=self._group, logStreamName=self._stream, logEvents=events)
        except Exception as error:
            if aws_client.error_code(error) != _MISSING:
                raise
        self._create_stream()  # somebody removed it
        return self._client.put_log_events(logGroupName=self._group, logStreamName=self._stream, logEvents=events)

    def _create_stream(self) -> None:
        name = self._wanted or stream_name()
        try:
            self._created("create_log_stream", logGroupName=self._group, logStreamName=name)
        except Exception as error:
            if not self._create_group or aws_client.error_code(error) != _MISSING:
                raise
            self._created("create_log_group", logGroupName=self._group)
            self._created("create_log_stream", logGroupName=self._group, logStreamName=name)
        self._stream = name

    def _created(self, method: str, **arguments: str) -> None:
        try:
            getattr(self._client, method)(**arguments)
        except Exception as error:
            if aws_client.error_code(error) != _PRESENT:
                raise


def make_client() -> Any:
    """botocore's client for CloudWatch Logs. The next export is the second attempt."""
    return aws_client.make_client("logs")


def stream_name() -> str:
    """A log stream for this process: `<host>/<process id>-<time of the start in ms>`."""
    import socket

    host = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in socket.gethostname()[:200])
    # Ids of processes come again, in containers at once.
    return f"{host}/{os.getpid()}-{time.time_ns() // 1_000_000}"


def batches(ordered: Sequence[Document]) -> Iterator[Sequence[Document]]:
    """Parts of at most 10,000 events, 1 MiB with 26 bytes for each, and less than 24 hours."""
    start = size = 0
    for position, document in enumerate(ordered):
        weight = len(document.line) + _EVENT_BYTES
        full = position - start >= _MAX_EVENTS or size + weight > _MAX_BYTES
        if position > start and (full or document.time_ms - ordered[start].time_ms > _MAX_SPAN_MS):
            yield ordered[start:position]
            start, size = position, 0
        size += weight
    if start < len(ordered):
        yield ordered[start:]
