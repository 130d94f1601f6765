from __future__ import annotations

import collections.abc
import os.path
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from spanwell._installed import Installed, normalised


def _lay(folder: Path, name: str, entries: str | None = None) -> None:
    (folder / name).mkdir(parents=True)
    if entries is not None:
        (folder / name / "entry_points.txt").write_text(entries)


def test_the_real_environment_as_importlib_reads_it() -> None:
    installed = Installed()
    wanted = {normalised(dist.metadata["Name"]): dist.version for dist in metadata.distributions()}
    assert installed.versions == wanted
    entries = {(entry.name, entry.value) for entry in metadata.entry_points(group="opentelemetry_instrumentor")}
    assert {(entry.name, entry.value) for entry in installed.instrumentors} == entries
    assert len(entries) > 20


def test_the_first_of_a_name_counts(tmp_path: Path) -> None:
    _lay(tmp_path / "a", "Shop.Kit-1.0.dist-info")
    _lay(tmp_path / "b", "shop_kit-2.0.dist-info", "[opentelemetry_instrumentor]\nshop = shop:Shop\n")
    installed = Installed([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "none")])
    assert installed.version("shop-kit") == installed.version("Shop.Kit") == "1.0"
    assert installed.instrumentors == []
    assert installed.complete
    with pytest.raises(LookupError):
        installed.version("other")


ENTRIES = """
# a comment
[console_scripts]
shop = shop:main

[opentelemetry_instrumentor]
shop=shop.otel:Shop
# off = shop.otel:Off
more = shop.more : More [extra]

[other]
last = shop:last
"""


def test_entry_points(tmp_path: Path) -> None:
    _lay(tmp_path, "shop-1.0.dist-info", ENTRIES)
    found = [(entry.name, entry.value) for entry in Installed([str(tmp_path)]).instrumentors]
    assert found == [("shop", "shop.otel:Shop"), ("more", "shop.more:More")]


def test_an_instrumentor_loads(tmp_path: Path) -> None:
    _lay(tmp_path, "shop-1.0.dist-info", "[opentelemetry_instrumentor]\nshop = collections:OrderedDict\n")
    import collections

    [entry] = Installed([str(tmp_path)]).instrumentors
    assert entry.load() is collections.OrderedDict


def test_what_cannot_be_read_makes_it_incomplete(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("shop-1.0.dist-info/METADATA", "")
    assert not Installed([str(tmp_path / "all.zip")]).complete
    _lay(tmp_path / "old", "shop-1.0.egg-info")
    assert not Installed([str(tmp_path / "old")]).complete


def test_entry_points_of_insight_detectors(tmp_path: Path) -> None:
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(
        "[spanwell_insight_detector]\nmodule = os.path\nnested = collections:abc.Mapping.get\n"
    )
    installed = Installed([str(tmp_path)])
    assert installed.instrumentors == []
    assert [each.name for each in installed.detectors] == ["module", "nested"]
    assert [each.load() for each in installed.detectors] == [os.path, collections.abc.Mapping.get]
