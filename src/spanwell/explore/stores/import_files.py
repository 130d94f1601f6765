"""Whole files into the sqlite file: large ones are read in a second process, while this one writes."""

from __future__ import annotations

import marshal
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from spanwell.explore.formats.files import STDIN, Source, Tally
from spanwell.explore.model import StoreError
from spanwell.explore.stores.importing import Batch, RowMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spanwell.explore.stores.importing import Importer

LARGE = 8_000_000
"""Bytes of a file from which a second process is worth its start."""

_HEAD = 8
_BATCH, _TALLY = 0, 1


def load(path: str, importer: Importer, tally: Tally, show: Callable[[Source, int], object]) -> None:
    """Import the file at `path`; `show(source, spans so far)` is called now and then.

    Raises `ExploreError` if it cannot be read, `StoreError` if the store cannot be written.
    """
    own = Tally()
    source = Source(path, own)
    parts = _parts(source, own)
    number = 0
    for kind, *part in _elsewhere(parts) if _large(source, path) else parts:
        if kind == _BATCH:
            rows, bodies, spans, source.done = part
            number += spans
            importer.write(Batch(rows, bodies, spans))
            show(source, number)
        else:
            tally.add(*part)


def _parts(source: Source, tally: Tally) -> Iterator[tuple[Any, ...]]:
    """Batches, each with how far the file is, and at last the tally: in plain types, as `marshal` takes them."""
    for batch in RowMaker().batches(source.records()):
        yield _BATCH, *batch, source.done
    yield _TALLY, *tally.told()


def _large(source: Source, path: str) -> bool:
    usable = getattr(os, "sched_getaffinity", None)
    processors = len(usable(0)) if usable is not None else os.cpu_count() or 1
    return hasattr(os, "fork") and path != STDIN and source.size >= LARGE and processors > 1


def _elsewhere(parts: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The same, made in a child. It is one part ahead, no more: then the pipe is full."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _send(parts, reading, writing)
    os.close(writing)
    ended = False
    try:
        with open(reading, "rb") as pipe:
            while (part := _next(pipe.read)) is not None:
                yield part
        ended = True
    finally:
        if not ended:
            os.kill(child, signal.SIGKILL)  # it may wait for its file, or for us
        os.waitpid(child, 0)


def _send(parts: Iterator[tuple[Any, ...]], reading: int, writing: int) -> None:
    """The child: nothing of the parent's, such as its connection, may be closed or flushed here."""
    status = 1
    try:
        os.close(reading)
        with open(writing, "wb", buffering=0, closefd=False) as pipe:
            for part in parts:
                encoded = marshal.dumps(part)
                _write(pipe.write, len(encoded).to_bytes(_HEAD, "big") + encoded)
            _write(pipe.write, bytes(_HEAD))
        status = 0
    except (BrokenPipeError, KeyboardInterrupt):
        pass
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _write(write: Callable[[memoryview], int | None], content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[write(left) or 0 :]


def _next(read: Callable[[int], bytes]) -> tuple[Any, ...] | None:
    head = read(_HEAD)
    size = int.from_bytes(head, "big")
    content = read(size)
    if len(head) < _HEAD or len(content) < size:
        raise StoreError("the process that reads the file ended early")
    part: tuple[Any, ...] | None = marshal.loads(content) if size else None
    return part
