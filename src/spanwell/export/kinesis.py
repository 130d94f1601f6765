"""Traces exporter `kinesis`: each trace's spans of a batch as one record, keyed by the trace id (docs/kinesis.md).

Only the entries that Kinesis refused are sent again. What is given up is counted as lost, and kept in the dead-letter
file if there is one.
"""

from __future__ import annotations

import random
import re
import threading
import time
from itertools import zip_longest
from typing import NamedTuple

from spanwell._children import in_child
from spanwell._guard import logger
from spanwell.export import aws_client
from spanwell.export.aws_client import PERMANENT, THROTTLED
from spanwell.export.dead_letter import DeadLetters, Letter
from spanwell.export.encoding import EncodingExporter, Sent
from spanwell.export.kinesis_pace import Pace
from spanwell.export.kinesis_records import MAX_RECORD, Record, Waiting, cost_of, entries, records, take

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan

FORMATS = ("protobuf", "json")
COMPRESSIONS = ("none", "gzip")

_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_GZIP_LEVEL = 4
_OVERHEAD = 300  # of what holds a waiting span: two tuples, the id's text, the bytes' header
_ARN = re.compile(r"arn:[a-z0-9-]+:kinesis:([a-z0-9-]+):\d{12}:stream/[A-Za-z0-9_.-]{1,128}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
# The request itself is at fault: what else waits is not.
_REFUSED = frozenset(("ValidationException", "InvalidArgumentException", "SerializationException"))
_MISSING = "create the stream, or correct SPANWELL_KINESIS_STREAM and the region; spanwell creates none"
_DENIED = "allow kinesis:PutRecords on the stream, and kms:GenerateDataKey if a key of yours encrypts it"


class KinesisSpanExporter(EncodingExporter):
    """Puts spans into `stream`, a name or an ARN (whose region is used then). Raises ValueError for anything else.

    `format` (protobuf, json) and `compression` (none, gzip) are the records'. `dead_letters` is a file for what is
    given up ("" for none). Retrying one batch takes `seconds` at most, and one request. `client` makes botocore's
    client, at the first export; `clock` and `chance` (0 to 1) are for tests.
    """

    name = "kinesis"

    def __init__(
        self,
        stream: str,
        *,
        format: str = "protobuf",
        compression: str = "none",
        dead_letters: DeadLetters | str = "",
        seconds: float = _SECONDS,
        client: Callable[[], Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.stream = stream
        self._to, self._region = _address(stream)
        if format == "json":
            from spanwell.export import otlp_json as otlp
        else:
            from spanwell.export import otlp_protobuf as otlp  # type: ignore[no-redef]
        self._encode, self._requests = otlp.encode_span, otlp.requests
        self._pack = _gzip() if compression == "gzip" else None
        self._letters = DeadLetters(dead_letters) if isinstance(dead_letters, str) else dead_letters
        self._seconds = seconds
        self._make = client or self._make_client
        self._clock = clock
        self._chance = chance
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """At the start, and in a forked child: the connection is the parent's."""
        self._client: Any = None
        self._pace = Pace()
        self._ending = threading.Event()

    def _make_client(self) -> Any:
        # The parameters are ours alone: validating each record costs as much as sending it.
        return aws_client.make_client("kinesis", region=self._region, parameter_validation=False)

    def encode(self, span: ReadableSpan) -> tuple[Waiting, int]:
        """The span's OTLP form beside its trace id, resource and scope."""
        context = span.context
        if context is None:
            raise ValueError("a span without context")
        data = self._encode(span)
        item = (span.resource, span.instrumentation_scope, data)
        return Waiting(f"{context.trace_id:032x}", item), len(data) + _OVERHEAD

    def last_attempt(self) -> None:
        """The process ends: no pauses from now on, and no further attempt once Kinesis takes nothing of a request."""
        self._ending.set()

    def send(self, items: list[Waiting]) -> Sent:
        """Put `items`, entry by entry, until Kinesis has them or the time is over."""
        return self.put(records(items, self._requests, self._pack))

    def put(self, made: list[Record]) -> Sent:
        """`send` for records that are made already."""
        turn = _Turn()
        pending = [record for record in made if record.size <= MAX_RECORD]
        for record in made:
            if record.size > MAX_RECORD:
                turn.give_up([record], f"a span of {record.size} bytes is over Kinesis's limit of {MAX_RECORD}")
        turn.reached = not pending
        deadline = self._clock() + self._seconds
        while pending:
            if not self._wait(turn.failures, deadline):
                turn.give_up(pending, turn.reason or "the stream takes less than is sent")
                break
            request = take(pending, self._pace.rate)
            self._after(turn, self._request(request), request, pending)
        return self._sent(turn)

    def _wait(self, failures: int, deadline: float) -> bool:
        """Wait for the next request, with full jitter after failures; False if that is beyond the deadline."""
        if self._ending.is_set():
            return self._clock() <= deadline
        pause = self._pace.wait(self._clock())
        if failures:
            longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures, 10))
            pause = max(pause, self._chance() * longest)
        if self._clock() + pause > deadline:
            return False
        if pause:
            self._ending.wait(pause)
        return True

    def _request(self, request: list[Record]) -> _Outcome:
        try:
            client = self._client
            if client is None:
                client = self._client = self._make()
            answer = client.put_records(Records=entries(request), **self._to)
        except Exception as error:
            logger.debug("spanwell: PutRecords failed", exc_info=error)
            verdict, code = aws_client.verdict(error), aws_client.error_code(error)
            if verdict is PERMANENT and not code:
                self._client = None  # it keeps what it found, or did not find, when it was made
            reason = aws_client.explain(error, missing=_MISSING, denied=_DENIED)
            return _Outcome(request, [], verdict, reason, code in _REFUSED)
        return _sorted(request, answer)

    def _after(self, turn: _Turn, outcome: _Outcome, request: list[Record], pending: list[Record]) -> None:
        """What `outcome` means for the rest: what goes back to the front of `pending`, and what is given up."""
        turn.reason = outcome.reason or turn.reason
        taken = len(outcome.failed) + len(outcome.refused) < len(request)
        turn.reached = turn.reached or taken or outcome.at_fault
        if taken or outcome.verdict is THROTTLED:
            tried, missed = cost_of(request), cost_of(outcome.failed) if outcome.verdict is THROTTLED else 0.0
            self._pace.sent(self._clock(), tried, max(0.0, tried - missed))
        turn.lost.extend(outcome.refused)
        failed = outcome.failed
        if outcome.verdict is PERMANENT and failed:
            turn.give_up(failed, outcome.reason)
            if not outcome.at_fault:
                turn.give_up(pending, outcome.reason)
        elif failed and self._ending.is_set() and not taken:
            turn.give_up(failed, outcome.reason)
            turn.give_up(pending, outcome.reason)
        elif failed:
            turn.failures += 1
            pending[:0] = failed
        else:
            turn.failures = 0

    def _sent(self, turn: _Turn) -> Sent:
        lost = sum(record.spans for record, _ in turn.lost)
        if not lost:
            return Sent()
        letters = [Letter(self.stream, record.key, record.data, record.spans, why) for record, why in turn.lost]
        kept = self._letters.write(letters)
        reason = turn.lost[-1][1]
        if kept:
            number = "they are" if kept == lost else f"{kept} of them are"
            reason = f"{reason.rstrip('.')}; {number} kept in {self._letters.path} (docs/kinesis.md)"
        return Sent(lost, reason, turn.reached)

    def shutdown(self) -> None:
        """Close the connections. Safe to call again."""
        self._ending.set()
        client, self._client = self._client, None
        if client is not None:
            client.close()


class _Outcome(NamedTuple):
    """failed: what may be sent again, unless the verdict is PERMANENT. refused: single entries that may not, and why.
    at_fault: the request itself was refused, as no other need be."""

    failed: list[Record]
    refused: list[tuple[Record, str]]
    verdict: str = ""
    reason: str = ""
    at_fault: bool = False


class _Turn:
    """One `send`: records given up and why, failures in a row, whether Kinesis answered to anything."""

    def __init__(self) -> None:
        self.lost: list[tuple[Record, str]] = []
        self.failures = 0
        self.reason = ""
        self.reached = False

    def give_up(self, given: list[Record], reason: str) -> None:
        """Take all of `given` out of it, as lost."""
        self.lost.extend((record, reason) for record in given)
        given.clear()


def _sorted(request: list[Record], answer: Any) -> _Outcome:
    """Which entries the answer to `request` refuses; it is positional."""
    failed: list[Record] = []
    refused: list[tuple[Record, str]] = []
    verdict = reason = ""
    results = (answer.get("Records") or [])[: len(request)]
    for record, result in zip_longest(request, results, fillvalue=None):
        assert record is not None
        code = "InternalFailure" if result is None else result.get("ErrorCode")
        if not code:
            continue
        said = f"{code}: {(result or {}).get('ErrorMessage') or 'no result'}"[:300]
        found = aws_client.entry_verdict(str(code))
        if found is PERMANENT:
            refused.append((record, said))
            continue
        failed.append(record)
        verdict = THROTTLED if verdict is THROTTLED else found
        reason = said
    return _Outcome(failed, refused, verdict, reason)


def _address(stream: str) -> tuple[dict[str, str], str]:
    """PutRecords's parameter for `stream`, and the region it names, or ""."""
    arn = _ARN.fullmatch(stream)
    if arn:
        return {"StreamARN": stream}, arn[1]
    if not stream:
        raise ValueError("set SPANWELL_KINESIS_STREAM to the name or ARN of a stream; spanwell creates none")
    if not _NAME.fullmatch(stream):
        raise ValueError(f"SPANWELL_KINESIS_STREAM={stream[:80]!r} is no name or ARN of a Kinesis stream")
    return {"StreamName": stream}, ""


def _gzip() -> Callable[[bytes], bytes]:
    from gzip import compress

    return lambda data: compress(data, _GZIP_LEVEL, mtime=0)
