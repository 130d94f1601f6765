"""Files of traces in any of the formats, found out by what is in them; `.gz` too, and standard input."""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from spanwell.explore.formats import jaeger, otlp, xray, xray_write, zipkin
from spanwell.explore.formats.common import why
from spanwell.explore.formats.json_values import values
from spanwell.explore.model import ExploreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from spanwell.explore.formats.common import Reader
    from spanwell.record import SpanRecord

STDIN = "-"
_GZIP = b"\x1f\x8b"
_REASONS = 100
_LONGEST = 300
_OTHER_SIGNALS = ("resourceLogs", "resourceMetrics", "resourceProfiles")


class Format(NamedTuple):
    """How one format is told from others, and read."""

    matches: Callable[[dict[str, Any]], bool]
    reader: Callable[[], Reader]


FORMATS: Mapping[str, Format] = {
    "otlp": Format(otlp.matches, otlp.OtlpReader),
    "xray": Format(xray.matches, xray.XrayReader),
    "jaeger": Format(jaeger.matches, jaeger.JaegerReader),
    "zipkin": Format(zipkin.matches, zipkin.ZipkinReader),
}

WRITERS: Mapping[str, Callable[[Iterable[list[SpanRecord]]], Iterator[str]]] = {
    "otlp": otlp.write,
    "jaeger": jaeger.write,
    "zipkin": zipkin.write,
    "xray": xray_write.write,
}
"""Each gives the text of a file out of traces, the spans of one in one list."""


class Problem(NamedTuple):
    """What could not be imported: `place` is the file and the line or index."""

    place: str
    reason: str


class Tally:
    """What came of reading files. refused: spans, or whole documents, that are not imported; `problems` has the
    first hundred of them. left_out: documents that are sound but no spans, e.g. metrics or X-Ray's inferred segments.
    """

    def __init__(self) -> None:
        self.refused = 0
        self.left_out = 0
        self.problems: list[Problem] = []
        self.formats: Counter[str] = Counter()

    def told(self) -> tuple[int, int, list[tuple[str, str]], dict[str, int]]:
        """All of it in plain types, for `add`."""
        return self.refused, self.left_out, [(each.place, each.reason) for each in self.problems], dict(self.formats)

    def add(self, refused: int, left_out: int, problems: list[tuple[str, str]], formats: dict[str, int]) -> None:
        """Count what another one has counted."""
        self.refused += refused
        self.left_out += left_out
        self.problems += [Problem(*problem) for problem in problems[: _REASONS - len(self.problems)]]
        self.formats.update(formats)

    def refuse(self, place: str, reason: str) -> None:
        """Count one."""
        self.refused += 1
        if len(self.problems) < _REASONS:
            self.problems.append(Problem(place, " ".join(reason.split())[:_LONGEST]))


class Source:
    """One file, or standard input for `-`. Raises `ExploreError` if it cannot be opened."""

    def __init__(self, path: str, tally: Tally) -> None:
        self.name = "standard input" if path == STDIN else path
        self._tally = tally
        self._readers: dict[str, Reader] = {}
        self._latest = ""
        try:
            self._raw: IO[bytes] = sys.stdin.buffer if path == STDIN else open(path, "rb")  # noqa: SIM115
            self.size = os.fstat(self._raw.fileno()).st_size if path != STDIN else 0
            self._file = _unpacked(self._raw)
        except OSError as error:
            raise ExploreError(f"cannot read {self.name}: {error.strerror or error}") from None
        self.done = 0
        """Bytes of the file that have been read."""

    def records(self) -> Iterator[SpanRecord]:
        """The spans of the file; what is no span is counted."""
        try:
            for found in values(self._read):
                if found.problem:
                    self._refuse(found.where, found.problem)
                else:
                    yield from self._feed(found.value, found.where)
            for reader in self._readers.values():
                yield from self._guarded(reader.end(self._refuse), "its end")
                self._tally.left_out += reader.left_out
        finally:
            if self._raw is not sys.stdin.buffer:
                self._raw.close()

    def _feed(self, value: Any, where: str) -> Iterator[SpanRecord]:
        if isinstance(value, list):
            for number, item in enumerate(value):
                yield from self._feed_one(item, f"{where}[{number}]")
        else:
            yield from self._feed_one(value, where)

    def _feed_one(self, value: Any, where: str) -> Iterable[SpanRecord]:
        if isinstance(value, list):  # lists of lists: Zipkin's answer for several traces
            return (span for number, each in enumerate(value) for span in self._feed_one(each, f"{where}[{number}]"))
        if not isinstance(value, dict):
            self._refuse(where, "it is no object")
            return ()
        name = self._format(value)
        if not name:
            if not value or any(signal in value for signal in _OTHER_SIGNALS):
                self._tally.left_out += 1
            else:
                fields = ", ".join(list(value)[:5])
                self._refuse(where, f"no OTLP, Jaeger, Zipkin or X-Ray JSON: an object with {fields}")
            return ()
        self._tally.formats[name] += 1
        reader = self._readers.get(name)
        if reader is None:
            reader = self._readers[name] = FORMATS[name].reader()
        return self._guarded(reader.feed(value, where, self._refuse), where)

    def _guarded(self, spans: Iterable[SpanRecord], where: str) -> Iterator[SpanRecord]:
        """One document that a reader was not prepared for must not end the import of the others."""
        try:
            yield from spans
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            self._refuse(where, why(error))

    def _format(self, value: dict[str, Any]) -> str:
        if self._latest and FORMATS[self._latest].matches(value):
            return self._latest
        for name, each in FORMATS.items():
            if each.matches(value):
                self._latest = name
                return name
        return ""

    def _refuse(self, where: str, reason: str) -> None:
        self._tally.refuse(f"{self.name}: {where}", reason)

    def _read(self, size: int) -> bytes:
        import zlib

        try:
            found = self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            self._refuse("its end", f"cannot be read: {error}")
            return b""
        if self.size:
            self.done = self._raw.tell()
        return found


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    peek = getattr(raw, "peek", None)
    if peek is not None and peek(2)[:2] == _GZIP:
        import gzip

        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    return raw
