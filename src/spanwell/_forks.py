"""A fork waits for the imports that our own threads are in the middle of.

Python's import locks are not renewed in a child: a module that another thread was importing at the fork can never be
imported there, and whoever tries waits for ever. The application's imports are its own affair; ours are not.
"""

from __future__ import annotations

# These two take a lock before a fork and free it afterwards. Handlers that run before a fork run in the reverse order
# of their registration: imported first, they take their locks after our wait, in which another thread may need them.
import concurrent.futures.thread  # noqa: F401
import logging  # noqa: F401
import os
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

PATIENCE = 5.0
"""Seconds that a fork waits at most: the import may itself wait for something that the forking thread holds."""


class _Whole:
    """``with whole:`` around work that imports; the same thread may enter several times."""

    def __init__(self) -> None:
        self._threads: list[int] = []

    def __enter__(self) -> None:
        self._threads.append(threading.get_ident())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._threads.remove(threading.get_ident())
        except ValueError:  # forked within the block
            pass

    def wait(self) -> None:
        """Before a fork: until no other thread is inside, at most PATIENCE seconds."""
        me, end = threading.get_ident(), time.monotonic() + PATIENCE
        # No lock and no condition: one that another thread holds at the fork would stay held in the child.
        while any(thread != me for thread in tuple(self._threads)) and time.monotonic() < end:
            time.sleep(0.001)

    def forget(self) -> None:
        """In the child: of all threads only this one is left."""
        me = threading.get_ident()
        self._threads = [thread for thread in self._threads if thread == me]


whole = _Whole()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=whole.wait, after_in_child=whole.forget)
