"""EMF documents on stdout, for Lambda, the awslogs driver and agents that read the output of containers.

Where Python buffers stdout they go through its binary buffer, which has a lock and holds whole writes of the
application: what has left it so far mostly ends in the middle of a line. (The text layer above is not thread-safe.)
That is done only while the pipe has room, because whoever waits with that lock makes the application wait. Else they
are written to the file descriptor. A pipe takes what is no longer than PIPE_BUF in one piece or not at all.
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
import time

from spanwell._forks import whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from spanwell.export.emf_documents import Document

_BLOCK = 4096  # PIPE_BUF of Linux; where it is less, longer lines may mix with those of other writers
_ROOM = 32_768  # Python's buffer holds at most half as much, unless somebody has made it larger
_PAUSE = 0.01
# Before, threads that print while one of them waits for the buffer's lock lose lines (CPython gh-119506).
_BUFFER_IS_SAFE = sys.version_info >= (3, 12, 4)


class Stdout:
    """Writes lines to the file descriptor `fd`, as long as that is what it was at the start. See `emf.Sink`.

    seconds: how long a reader that takes nothing is waited for in one export.
    """

    destination = "stdout"
    missing = denied = ""
    max_bytes = _BLOCK - 2

    def __init__(
        self,
        fd: int = 1,
        *,
        seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._fd = fd
        self._seconds = seconds
        self._clock = clock
        self._sleep = sleep
        self._identity = _identity(fd)

    def begin(self) -> None:
        """Nothing to do: a child may write to its parent's stdout."""

    def write(self, waiting: deque[Document], refused: Callable[[int, object], object]) -> None:
        """Write lines; those for which there is no reader any more are refused."""
        if not self._usable():
            _refuse_all(waiting, refused, "stdout was closed or replaced since the process began")
            return
        deadline = self._clock() + self._seconds
        try:
            while waiting:
                self._write_block(waiting, deadline)
        except (BrokenPipeError, ConnectionError) as error:
            _refuse_all(waiting, refused, f"nobody reads stdout: {error}")

    def _usable(self) -> bool:
        """Whether `fd` is still stdout: a number that is closed is given to the next file or socket that is opened.

        A daemon that has sent both its stdout and its stderr to a log file is fine.
        """
        now = _identity(self._fd)
        return now is not None and (now == self._identity or (self._fd == 1 and now == _identity(2)))

    def _write_block(self, waiting: deque[Document], deadline: float) -> None:
        """One write: as many lines as fit into a block, or one that is longer."""
        # A break in front: the application may be in the middle of a line, which would take the document's place.
        block = b"\n"
        ends: list[int] = []
        for document in waiting:
            if ends and len(block) + len(document.line) + 1 > _BLOCK:
                break
            block += document.line + b"\n"
            ends.append(len(block))
        done = 0
        try:
            while done < len(block):
                done += self._write_some(block[done : done + _BLOCK], deadline)
        finally:
            for end in ends:
                if end <= done:
                    waiting.popleft()

    def _write_some(self, piece: bytes, deadline: float) -> int:
        buffer = _python_buffer(self._fd)
        if buffer is not None and self._has_room(deadline):
            return _through(buffer, piece)
        while True:
            self._wait(deadline)
            try:
                return os.write(self._fd, piece)
            except BlockingIOError:
                if self._clock() >= deadline:
                    raise
                self._sleep(_PAUSE)

    def _has_room(self, deadline: float) -> bool:
        """Whether Python's buffer can be let out at once; half of the time is waited for that."""
        patient = deadline - self._seconds / 2
        while (room := _room(self._fd)) < _ROOM:
            if room < 0 or self._clock() >= patient:
                return False
            self._sleep(_PAUSE)
        return True

    def _wait(self, deadline: float) -> None:
        """Until a block can be written without waiting. Another writer may come first: then this thread waits."""
        if not hasattr(select, "poll"):
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        left = max(0.0, deadline - self._clock())
        if not poll.poll(left * 1000):
            raise TimeoutError(f"its reader has taken nothing for {self._seconds:g} s")


def _refuse_all(waiting: deque[Document], refused: Callable[[int, object], object], why: str) -> None:
    number = sum(document.metrics for document in waiting)
    waiting.clear()
    refused(number, why)


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _python_buffer(fd: int) -> io.BufferedWriter | None:
    """The binary buffer of `sys.stdout`, if it has one and writes to `fd`."""
    stream = sys.stdout
    if type(stream) is not io.TextIOWrapper or not _BUFFER_IS_SAFE:
        return None
    try:
        buffer = stream.buffer
        return buffer if type(buffer) is io.BufferedWriter and buffer.fileno() == fd else None
    except ValueError:  # closed, or detached
        return None


def _through(buffer: io.BufferedWriter, piece: bytes) -> int:
    with whole:  # a fork meanwhile would leave the child with a lock that is never released
        try:
            buffer.write(piece)
            buffer.flush()
        except BlockingIOError:  # it keeps what is not out yet
            pass
    return len(piece)


def _room(fd: int) -> int:
    """Bytes that can be written to `fd` without waiting, at least; negative where that is not known."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return _ROOM
    if not stat.S_ISFIFO(mode) or not sys.platform.startswith("linux"):
        return -1
    from array import array
    from fcntl import F_GETPIPE_SZ, fcntl, ioctl  # type: ignore[attr-defined, unused-ignore]
    from termios import FIONREAD

    queued = array("i", [0])
    ioctl(fd, FIONREAD, queued)
    size = int(fcntl(fd, F_GETPIPE_SZ))
    return size - queued[0] if size >= _ROOM else -1
