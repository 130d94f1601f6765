"""Trace and span ids that X-Ray and W3C both accept.

A trace id is the epoch second (32 bits) and 96 random bits; X-Ray reads its age from the first part.
The generator has its own random numbers: the application may seed or use the global ones as it likes, and ids
stay distinct after a fork and after a Lambda snapshot restore.
"""

from __future__ import annotations

import os
import sys
import time
from random import Random
from weakref import WeakSet

from opentelemetry.sdk.trace.id_generator import IdGenerator

from spanwell.incoming import take_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_generators: WeakSet[XRayIdGenerator] = WeakSet()
_restore_hooked = False


class XRayIdGenerator(IdGenerator):
    """Ids for X-Ray and W3C. Thread-safe.

    clock: wall clock in seconds; monotonic: clock for the age of an expected root; random: source of bits.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        random: Random | None = None,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        # Random() seeds itself with 2.5 kB of os.urandom; getrandbits is one C call, so it needs no lock.
        self._random = Random() if random is None else random
        self._bits = self._random.getrandbits
        _generators.add(self)
        _reseed_after_restore()

    def generate_trace_id(self) -> int:
        """The Root of the request being entered if it came without a Parent, else a new trace id; never 0."""
        # `or 1` rather than another draw: no loop, and a bias of 2 ** -96.
        return take_root(self._monotonic) or ((int(self._clock()) & 0xFFFFFFFF) << 96 | (self._bits(96) or 1))

    def generate_span_id(self) -> int:
        """64 random bits, never 0."""
        return self._bits(64) or 1

    def is_trace_id_random(self) -> bool:
        """True: the low 96 bits are random, of our own ids and of a Root that AWS made."""
        return True

    def reseed(self) -> None:
        """Start a new random sequence from os.urandom."""
        self._random.seed()


def reseed() -> None:
    """Give every generator of this process a new random sequence."""
    for generator in list(_generators):
        generator.reseed()


def _reseed_after_restore() -> None:
    """Under Lambda's runtime client, have `reseed` called when a snapshot is restored (SnapStart)."""
    global _restore_hooked
    if _restore_hooked or "awslambdaric" not in sys.modules:
        return
    _restore_hooked = True
    try:
        # Part of the managed runtime; the runtime client itself imports it only when a snapshot is taken.
        from snapshot_restore_py import register_after_restore
    except ImportError:
        return
    register_after_restore(reseed)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=reseed)
