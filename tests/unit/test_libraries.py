"""What libraries get without an instrumentor comes with the set-up, and its modules are watched."""

from __future__ import annotations

import pytest

from spanwell import libraries
from spanwell._triggers import FOLLOWED, watched_modules


def test_every_module_is_watched() -> None:
    assert set(libraries.LATER) == FOLLOWED
    assert watched_modules() >= FOLLOWED


def test_before_the_set_up_an_import_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    monkeypatch.setattr(libraries, "_settings", None)
    monkeypatch.setitem(libraries.LATER, "structlog", done.append)
    libraries.imported("structlog")
    libraries.imported("flask")
    assert done == []
