"""The layer's own packages are found after everything else, and an OpenTelemetry that does not fit is told of."""

from __future__ import annotations

import sys
from importlib import import_module, invalidate_caches, metadata
from pathlib import Path

import pytest

from spanwell._installed import Installed
from spanwell.aws_lambda import paths


def write(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)


def telemetry(api: str = "", sdk: str = "") -> dict[str, str]:
    files = {}
    if api:
        files["opentelemetry/version/__init__.py"] = f'__version__ = "{api}"\n'
    if sdk:
        files["opentelemetry/sdk/version/__init__.py"] = f'__version__ = "{sdk}"\n'
    return files


@pytest.fixture
def imports(monkeypatch, tmp_path):
    """A finder for tmp_path/layer in place, and all as before afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    before = set(sys.modules)
    finder = paths.Beside([str(tmp_path / "layer")])
    finder.install()
    invalidate_caches()
    yield finder
    for name in set(sys.modules) - before:
        del sys.modules[name]


# --- the finder ---------------------------------------------------------------------------------------------------


def test_what_nobody_brings_is_found(tmp_path, imports):
    write(tmp_path / "layer", {"ours_only/__init__.py": "x = 1", "ours_only/sub/deep.py": "y = 2"})
    assert import_module("ours_only").x == 1
    assert import_module("ours_only.sub.deep").y == 2


def test_what_the_function_brings_comes_first_however_late_it_is_added(tmp_path, imports):
    write(tmp_path / "layer", {"brought.py": "who = 'layer'", "both/__init__.py": "", "both/ours.py": ""})
    write(tmp_path / "lib", {"brought.py": "who = 'function'", "both/theirs.py": ""})
    sys.path.append(str(tmp_path / "lib"))
    assert import_module("brought").who == "function"
    # A regular package of ours does not take the place of their folder without __init__.
    assert import_module("both.theirs").__file__.startswith(str(tmp_path / "lib"))


def test_parts_of_a_namespace_that_the_function_lacks_are_added(tmp_path, imports):
    write(
        tmp_path / "layer", {"spread/ours/__init__.py": "who = 'layer'", "spread/theirs/__init__.py": "who = 'layer'"}
    )
    write(tmp_path / "lib", {"spread/theirs/__init__.py": "who = 'function'"})
    sys.path.append(str(tmp_path / "lib"))
    assert import_module("spread.theirs").who == "function"
    assert import_module("spread.ours").who == "layer"


def test_what_nobody_has_is_not_found(tmp_path, imports):
    write(tmp_path / "layer", {"ours_only/__init__.py": ""})
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'ours_only\.absent'"):
        import_module("ours_only.absent")
    with pytest.raises(ModuleNotFoundError, match="No module named 'absent'"):
        import_module("absent")


def test_a_layer_without_its_folders_finds_nothing_and_does_not_fail(imports):
    with pytest.raises(ModuleNotFoundError):
        import_module("absent")


def test_metadata_of_the_layers_packages_comes_last(tmp_path, imports):
    for folder, version in (("layer", "2"), ("lib", "1")):
        write(tmp_path / folder, {f"brought-{version}.dist-info/METADATA": f"Name: brought\nVersion: {version}\n"})
    text = "[opentelemetry_instrumentor]\nx = y:Z\n"
    own = {"ours-3.dist-info/METADATA": "Name: ours\nVersion: 3\n", "ours-3.dist-info/entry_points.txt": text}
    write(tmp_path / "layer", own)
    sys.path.append(str(tmp_path / "lib"))
    assert metadata.version("brought") == "1"
    assert metadata.version("ours") == "3"
    assert "y:Z" in {entry.value for entry in metadata.entry_points(group="opentelemetry_instrumentor")}
    found = Installed()
    assert (found.version("brought"), found.version("ours")) == ("1", "3")
    assert "y:Z" in {entry.value for entry in found.instrumentors}
    assert list(metadata.distributions(name="ours", path=[str(tmp_path / "lib")])) == []


# --- conflicts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, ""),
        (telemetry("1.44.0", "1.44.0"), ""),
        (telemetry("1.99.0", "1.99.1"), ""),
        (telemetry("1.46.0"), ""),
        (telemetry("1.30.0", "1.30.0"), "has opentelemetry-api 1.30.0, spanwell needs 1.44 or newer"),
        (telemetry("1.45.0", "1.9.0"), "has opentelemetry-sdk 1.9.0, spanwell needs 1.44"),
        (telemetry("2.0.0"), "has opentelemetry-api 2.0.0, spanwell needs 1.44 or newer, below 2"),
        (telemetry("1.44.0"), "with the layer's SDK it has to be 1.45 or newer"),
        (telemetry("x.y"), "spanwell needs 1.44"),
        ({"opentelemetry/version.py": "__version__ = '1.9.0'\n"}, "has opentelemetry-api 1.9.0"),
        ({"opentelemetry/trace/__init__.py": ""}, "opentelemetry-api of unknown version"),
        ({"opentelemetry/__init__.py": ""}, "takes the place of OpenTelemetry"),
        ({"opentelemetry.py": ""}, "takes the place of OpenTelemetry"),
    ],
)
def test_which_opentelemetry_fits(tmp_path, files, wanted):
    theirs = write(tmp_path / "lib", {"app.py": "", **files})
    layer = write(tmp_path / "layer", telemetry("1.45.1", "1.45.1"))
    found = paths.conflict(["/nowhere", theirs, ""], [layer])
    assert found == "" if not wanted else wanted in found
    assert found == "" or theirs in found


def test_opentelemetry_is_not_completed_where_it_does_not_fit(tmp_path, imports):
    write(tmp_path / "layer", {**telemetry("1.45.1", "1.45.1"), "opentelemetry/l3_probe.py": "", "plain_l3.py": ""})
    lib = write(tmp_path / "lib", telemetry("1.30.0"))
    sys.path.insert(0, lib)
    sys.modules.pop("opentelemetry", None)
    assert imports.find_spec("opentelemetry.l3_probe") is None
    assert imports.find_spec("plain_l3") is not None
    sys.path.remove(lib)
    sys.path[:] = [entry for entry in sys.path if not (Path(entry) / "opentelemetry").is_dir()]
    assert imports.conflict() == ""
    assert imports.find_spec("opentelemetry.l3_probe") is not None


def test_a_conflict_is_told_of_once(tmp_path, imports, monkeypatch, capsys):
    monkeypatch.setattr(paths, "_finder", imports)
    monkeypatch.setattr(paths, "_told", False)
    lib = write(tmp_path / "lib", telemetry("1.30.0"))
    sys.path.insert(0, lib)
    assert not paths.usable()
    assert not paths.usable()
    assert capsys.readouterr().err == (
        f"spanwell: nothing is traced: {lib} has opentelemetry-api 1.30.0, spanwell needs 1.44 or newer, below 2: "
        "update it, or leave it to the layer\n"
    )


def test_without_a_layer_there_is_no_finder(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(paths, "_finder", None)
    assert paths.begin() is None
    assert paths.usable()
    assert not any(isinstance(finder, paths.Beside) for finder in sys.meta_path)


def test_the_finder_needs_no_further_module_at_its_start():
    text = Path(paths.__file__).read_text()
    assert [line for line in text.splitlines() if line.startswith(("import ", "from "))] == [
        "import os",
        "import sys",
    ]
