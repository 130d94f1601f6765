"""SnapStart: an environment is restored from a snapshot, many times. Nothing of the snapshot's may be used twice.

Ids start a new random sequence, connections are made anew, and what waited is exported before the snapshot is taken.
"""

from __future__ import annotations

import os
import sys

from spanwell._guard import guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from spanwell.export.synchronous import SynchronousProcessor

    class Ready(Protocol):
        processors: list[SynchronousProcessor]

        def flush(self, seconds: float) -> bool: ...


SNAP_START = "snap-start"
_BEFORE_SNAPSHOT = 2.0
"""Seconds that the export before a snapshot may take."""


def takes_snapshots(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this environment's INIT ends in a snapshot. Then it pays to have the SDK in it: INIT is done once."""
    return environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == SNAP_START


def install(ready: Ready, environ: Mapping[str, str] = os.environ) -> None:
    """Have the runtime client call us before a snapshot and after each restore; elsewhere nothing."""
    if not takes_snapshots(environ) or "awslambdaric" not in sys.modules:
        return
    try:
        # Part of the managed runtime.
        from snapshot_restore_py import register_after_restore, register_before_snapshot  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        return

    def before() -> None:
        with guard("the export before a snapshot"):
            ready.flush(_BEFORE_SNAPSHOT)

    register_before_snapshot(before)
    register_after_restore(lambda: restored(ready))


def restored(ready: Ready) -> None:
    """What was set up before the snapshot starts anew."""
    from spanwell import ids

    with guard("the start after a restore"):
        ids.reseed()
        for each in ready.processors:
            each.renew()
