"""The pause of the garbage collector leaves it as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from spanwell._collector import without_gc


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    gc.unfreeze()  # what another test, or a library, kept out of collections
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("settled", [False, True])
def test_it_is_off_inside_and_as_it_was_outside(settled: bool) -> None:
    with without_gc(settled=settled):
        assert not gc.isenabled()
        with without_gc(settled=settled):
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    with without_gc(settled=settled):
        pass
    assert not gc.isenabled()


def test_what_was_made_meanwhile_is_not_walked_at_once_and_is_still_collected() -> None:
    gc.collect()
    with without_gc(settled=True):
        kept = [[number] for number in range(5000)]
        loop: list[object] = []
        loop.append(loop)
        del loop
    assert gc.get_count()[0] < 1000
    assert gc.get_freeze_count() < 1000
    assert gc.collect() >= 1
    assert len(kept) == 5000


def test_what_the_application_froze_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with without_gc(settled=True):
        pass
    assert gc.get_freeze_count() >= frozen - 100 > 0
