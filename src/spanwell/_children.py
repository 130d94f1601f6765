"""What an object does in a forked child. Apart from `_forks`, because this is imported at every start."""

from __future__ import annotations

import os
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def in_child(method: Callable[[], object]) -> None:
    """Call this bound method in every forked child, as long as its object lives: threads, locks and what waits stayed
    with the parent."""
    if hasattr(os, "register_at_fork"):
        alive = weakref.WeakMethod(method)
        os.register_at_fork(after_in_child=lambda: (found := alive()) and found())
