"""A bounded file of what a destination did not take, one JSON document a line, to be sent again by hand.

Several processes may append to the same file: a line is one write at its end. A line that a full disk cut short is
skipped when the file is read, and the next one begins anew.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from spanwell._forks import whole
from spanwell._guard import warn_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

DEFAULT_MAX_BYTES = 64_000_000


class Letter(NamedTuple):
    """stream: name or ARN. key, data: of the record. spans: how many are in it. reason: why it was given up."""

    stream: str
    key: str
    data: bytes
    spans: int
    reason: str
    time: str = ""


class DeadLetters:
    """Appends to the file at `path` ("" for none) while it has at most `max_bytes` bytes.

    Its owner alone may read it. Nothing is opened before the first letter. For one thread at a time; needs no care
    at a fork. kept: spans written so far.
    """

    def __init__(self, path: str, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = os.path.abspath(os.path.expanduser(path)) if path else ""
        self.max_bytes = max_bytes
        self.kept = 0

    def write(self, letters: list[Letter]) -> int:
        """Append `letters`; how many of their spans are in the file now. Never raises."""
        if not self.path or not letters:
            return 0
        before = self.kept
        try:
            file = self._open()
            try:
                self._append(file, letters)
            finally:
                os.close(file)
        except OSError as error:
            self._said(f"cannot be written: {error.strerror or error}")
        return self.kept - before

    def _append(self, file: int, letters: list[Letter]) -> None:
        size = os.fstat(file).st_size
        for letter in letters:
            line = _line(letter)
            size += len(line)
            if size > self.max_bytes:
                self._said(f"is full ({self.max_bytes} bytes); send it again (docs/kinesis.md)")
                return
            if os.write(file, line) != len(line):
                os.write(file, b"\n")  # the next letter begins anew; raises if the disk is full
            else:
                self.kept += letter.spans

    def _open(self) -> int:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)

    def _said(self, problem: str) -> None:
        warn_once(
            f"dead letters:{self.path}:{problem[:20]}", "spanwell: the dead-letter file %s %s", self.path, problem
        )


def _line(letter: Letter) -> bytes:
    with whole:
        import json
        from base64 import b64encode
        from datetime import datetime, timezone

    time = letter.time or datetime.now(timezone.utc).isoformat(timespec="seconds")
    document = {**letter._asdict(), "time": time, "data": b64encode(letter.data).decode()}
    return json.dumps(document).encode() + b"\n"


def read(path: str) -> Iterator[Letter | None]:
    """Every letter of the file at `path`; None for a line that is none. Raises OSError."""
    with open(path, "rb") as file:
        for line in file:
            if line.strip():
                yield _letter(line)


def _letter(line: bytes) -> Letter | None:
    import json
    from base64 import b64decode

    try:
        found: Any = json.loads(line)
        stream, key, reason, time = (str(found[name]) for name in ("stream", "key", "reason", "time"))
        return Letter(stream, key, b64decode(found["data"], validate=True), int(found["spans"]), reason, time)
    except (ValueError, KeyError, TypeError):
        return None
