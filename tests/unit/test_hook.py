from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from spanwell._hook import Hook

NAMES = ("hk_plain", "hk_fails", "hk_outer", "hk_package", "hk_package.sub", "hk_space", "hk_old")


class Watch:
    """What a hook reported, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.hook = Hook(self._after, self._before, NAMES)

    def _before(self, module: ModuleType) -> None:
        self.seen.append(f"before {module.__name__} {hasattr(module, 'value')}")

    def _after(self, name: str) -> None:
        self.seen.append(f"after {name} {hasattr(sys.modules[name], 'value')}")


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "hk_plain.py").write_text("value = 1\ndef work():\n    return 'source'\n")
    (tmp_path / "hk_fails.py").write_text("raise ValueError('broken')\n")
    (tmp_path / "hk_outer.py").write_text("import hk_plain\nvalue = hk_plain.value\n")
    (tmp_path / "hk_package").mkdir()
    (tmp_path / "hk_package" / "__init__.py").write_text("value = 1\n")
    (tmp_path / "hk_package" / "sub.py").write_text("value = 2\n")
    (tmp_path / "hk_space").mkdir()
    made = Watch()
    made.hook.install()
    yield made
    made.hook.uninstall()
    for name in NAMES:
        sys.modules.pop(name, None)


def _import(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_before_and_after_once(watch: Watch) -> None:
    _import("hk_plain")
    _import("hk_plain")
    assert watch.seen == ["before hk_plain False", "after hk_plain True"]


def test_a_module_that_fails_is_reported_when_it_succeeds(watch: Watch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broken"):
        _import("hk_fails")
    assert "hk_fails" not in sys.modules
    (tmp_path / "hk_fails.py").write_text("value = 'a longer text than before'\n")
    importlib.invalidate_caches()
    _import("hk_fails")
    assert watch.seen == ["before hk_fails False", "before hk_fails False", "after hk_fails True"]


def test_the_module_has_its_own_loader(watch: Watch) -> None:
    module = _import("hk_plain")
    assert module.__spec__ is not None
    assert module.__loader__ is module.__spec__.loader
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert "return 'source'" in inspect.getsource(module.work)


def test_an_import_within_an_import(watch: Watch) -> None:
    _import("hk_outer")
    assert [line.split()[:2] for line in watch.seen] == [
        ["before", "hk_outer"],
        ["before", "hk_plain"],
        ["after", "hk_plain"],
        ["after", "hk_outer"],
    ]


def test_packages_and_submodules(watch: Watch) -> None:
    _import("hk_package.sub")
    assert [line for line in watch.seen if line.startswith("after")] == [
        "after hk_package True",
        "after hk_package.sub True",
    ]


def test_a_reload_is_not_reported_again(watch: Watch) -> None:
    module = _import("hk_plain")
    assert importlib.reload(module) is module
    assert len(watch.seen) == 2


def test_what_was_imported_already_is_reported_at_once_and_once(watch: Watch) -> None:
    watch.hook.uninstall()
    module = _import("hk_plain")
    watch.hook.install()
    watch.hook.watch(["hk_plain"])
    assert watch.seen == ["after hk_plain True"]
    importlib.reload(module)
    assert watch.seen == ["after hk_plain True"]


def test_a_name_that_is_both_given_and_imported_is_reported_once(watch: Watch, tmp_path: Path) -> None:
    watch.hook.uninstall()
    module = _import("hk_plain")
    seen: list[str] = []
    hook = Hook(seen.append, None, ["hk_plain"])
    hook.install()
    try:
        hook.watch(["hk_plain"])
        importlib.reload(module)
    finally:
        hook.uninstall()
    assert seen == ["hk_plain"]


def test_a_namespace_package_imports_unreported(watch: Watch) -> None:
    module = _import("hk_space")
    assert list(module.__path__)
    assert watch.seen == []


def test_a_loader_without_exec_module_is_left_alone(watch: Watch) -> None:
    class Old:
        def find_spec(self, name: str, path: object, target: object = None) -> object:
            return importlib.machinery.ModuleSpec(name, self) if name == "hk_old" else None  # type: ignore[arg-type]

    spec = None
    finder = Old()
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    try:
        spec = watch.hook.find_spec("hk_old")
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]
    assert spec is not None
    assert spec.loader is finder


def test_other_finders_keep_their_say(watch: Watch) -> None:
    asked: list[str] = []

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            asked.append(name)

    finder = Finder()
    sys.meta_path.insert(0, finder)
    try:
        _import("hk_plain")
    finally:
        sys.meta_path.remove(finder)
    assert "hk_plain" in asked
    assert len(watch.seen) == 2


def test_a_finder_that_asks_the_others_itself_is_no_endless_loop(watch: Watch) -> None:
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> object:
            for each in sys.meta_path:
                if each is not self and (spec := each.find_spec(name, path, target)):  # type: ignore[arg-type]
                    return spec
            return None

    finder = Finder()
    sys.meta_path.insert(0, finder)
    try:
        _import("hk_plain")
    finally:
        sys.meta_path.remove(finder)
    assert watch.seen == ["before hk_plain False", "after hk_plain True"]


def test_find_spec_by_hand_runs_nothing(watch: Watch) -> None:
    spec = importlib.util.find_spec("hk_plain")
    assert spec is not None
    assert spec.loader is not None
    assert "source" in spec.loader.get_source("hk_plain")  # type: ignore[attr-defined]
    assert watch.seen == []


def test_threads_that_import_at_once(watch: Watch) -> None:
    gate = threading.Barrier(8)
    errors: list[BaseException] = []

    def main() -> None:
        gate.wait()
        try:
            assert _import("hk_outer").value == 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=main) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert errors == []
    assert sorted(line.split()[0] for line in watch.seen) == ["after", "after", "before", "before"]


def test_uninstalled_it_is_gone(watch: Watch) -> None:
    watch.hook.uninstall()
    watch.hook.uninstall()
    _import("hk_plain")
    assert watch.seen == []
    assert watch.hook not in sys.meta_path
