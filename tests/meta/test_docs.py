"""The documents say what the code does: settings, links, commands, defaults, entry points."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

from spanwell.settings import Settings, markdown

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])

pytestmark = pytest.mark.meta


def test_the_settings_page_is_generated() -> None:
    assert (ROOT / "docs/settings.md").read_text() == markdown(), "run `make docs`"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_is_named_exists(path: Path) -> None:
    known = {row.variable for row in Settings.rows()} | {"SPANWELL_STRICT"}
    named = set(re.findall(r"\bSPANWELL_[A-Z_]+[A-Z]\b", path.read_text()))
    assert named - known == set()


def test_every_room_stands_in_the_architecture() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = {
        path.name if path.is_dir() else path.stem
        for path in (ROOT / "src/spanwell").iterdir()
        if (path.is_dir() or path.suffix == ".py") and path.name not in ("__pycache__", "__init__.py")
    }
    assert [room for room in sorted(rooms) if not re.search(rf"\b{re.escape(room)}\b", text)] == []


def test_the_commands_of_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", text)) <= targets
    assert "make demo" in text
    assert "make test" in text


def test_ci_is_the_readme_command() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "export SPANWELL_STRICT=1", "exec make test"]


def test_dependencies_are_ranges_and_their_pins_have_no_address() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    assert [each for each in [*project["dependencies"], *extras] if "==" in each.partition(";")[0]] == []
    assert not any("opentelemetry-distro" in each for each in [*project["dependencies"], *extras])
    for pins in (ROOT / "constraints").glob("*.txt"):
        for line in pins.read_text().splitlines():
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[^ ]+( ; .+)?", line), line


def test_every_change_has_a_line() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
