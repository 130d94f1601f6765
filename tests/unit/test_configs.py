"""Every file of configs/ is loaded by the code that it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from spanwell.settings import Settings

CONFIGS = Path(__file__).parents[2] / "configs"


def _variables(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.env")), ids=lambda path: path.name)
def test_an_env_file_sets_known_variables_to_good_values(path: Path) -> None:
    variables = _variables(path)
    settings = Settings.from_env(variables)
    assert settings.problems == ()
    assert {row.variable for row in Settings.rows() if settings.chosen(row)} == set(variables)


def test_the_declarative_file_holds_our_settings() -> None:
    from opentelemetry.configuration import load_config_file

    from spanwell.declarative import section

    path = str(CONFIGS / "otel-config.yaml")
    assert load_config_file(path).tracer_provider is not None
    settings = Settings.from_env({}, layers=(section(path),))
    assert settings.shutdown_timeout == 2.0
    assert settings.source(Settings.shutdown_timeout).startswith(path)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("sampling-*.json")), ids=lambda path: path.name)
def test_a_rules_file_is_read_without_complaint(path: Path) -> None:
    from spanwell.sampling.local import read_rules
    from spanwell.sampling.rules import RuleSet

    problems: list[str] = []
    rules = read_rules(path.read_text(), problems.append)
    assert problems == []
    assert rules is not None
    found = RuleSet(rules, {"service.name": "shop"})
    health = {"http.request.method": "GET", "url.path": "/healthz", "server.address": "shop.example.com"}
    checkout = {**health, "http.request.method": "POST", "url.path": "/api/v1/checkout", "customer.tier": "gold"}
    assert [found.match(attributes) for attributes in (health, checkout, {})] == [0, 1, 2]


def test_every_file_stands_in_the_list() -> None:
    text = (CONFIGS / "README.md").read_text()
    assert [path.name for path in CONFIGS.iterdir() if path.name != "README.md" and path.name not in text] == []
