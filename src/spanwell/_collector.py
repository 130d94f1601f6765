"""The garbage collector, paused while modules are imported."""

from __future__ import annotations

import gc


class without_gc:  # noqa: N801 - used as a statement
    """No garbage collection while modules are imported: they make many objects and no garbage.

    The collector would walk everything that the application has imported so far, again and again: 4 % of the CPU of
    a start. Collection is on again, if it was, a few milliseconds later.
    """

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_on:
            gc.enable()
