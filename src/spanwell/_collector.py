"""The garbage collector, paused while modules are imported."""

from __future__ import annotations

import gc

_IMMORTAL = 2000
"""Python 3.12 keeps some hundred objects that never die where `gc.freeze` puts others."""


class without_gc:  # noqa: N801 - used as a statement
    """No garbage collection while modules are imported: they make many objects and no garbage.

    The collector would walk everything that the application has imported so far, again and again: 4 % of the CPU of
    a start. Collection is on again, if it was, a few milliseconds later. With `settled` the objects that there are by
    then count as old, where else the next collection would walk them all at once: 18 ms after the imports of boto3.
    """

    def __init__(self, *, settled: bool = False) -> None:
        self._settled = settled

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if not self._was_on:
            return
        # With more, the application keeps objects out of collections itself.
        if self._settled and gc.get_freeze_count() < _IMMORTAL:
            gc.freeze()
            gc.unfreeze()  # into the oldest generation
        gc.enable()
