"""docs/sampling.md: its arguments, reasons and examples are those of the code."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from spanwell.cli import sampling
from spanwell.sampling.adaptive_config import read
from spanwell.sampling.build import OURS, Making, make
from spanwell.sampling.tail_buffer import Bounds
from spanwell.testing import FakeClock

TEXT = (Path(__file__).parents[2] / "docs/sampling.md").read_text()


def section(title: str) -> str:
    return re.split(r"^#+ ", TEXT.partition(f"{title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", ["xray", "xray_local", "tail", "budget"])
def test_every_argument_is_there_and_no_other(name: str) -> None:
    said: list[str] = []
    make(name, "@=1", Making(said.append))
    known = set(said[0].partition("; it knows ")[2].split(", "))
    rows = re.findall(r"^\| (`[^|]+) \|", section(f"### `{name}`"), re.MULTILINE)
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == known


def test_the_bounds_of_tail() -> None:
    bounds = Bounds()
    assert f"| {bounds.traces}, {bounds.spans}, {bounds.total}, {bounds.age:g} |" in section("### `tail`")


def test_every_sampler_is_there() -> None:
    assert set(re.findall(r"^### `(\w+)`", TEXT, re.MULTILINE)) | {"ratio"} == set(OURS)


def test_every_reason_is_one_of_the_code() -> None:
    rows = re.findall(r"^\| (`[^|]+) \|", section("how much it stands for"), re.MULTILINE)
    documented = {reason for row in rows for reason in re.findall(r"`(\w+)`", row)}
    code = "".join(path.read_text() for path in (Path(sampling.__file__).parents[1] / "sampling").glob("*.py"))
    assert {reason for reason in documented if f'"{reason}"' not in code} == set()
    assert len(documented) >= 15


def test_the_adaptive_example_can_be_read() -> None:
    example = re.findall(r"```yaml\n(version.*?)```", TEXT, re.DOTALL)
    config = read(example[0], pytest.fail)
    assert config is not None
    assert config.conditions[0].holds("503", 300_000_000)
    assert config.conditions[0].operations == {"GET /api"}


def test_the_argument_examples_can_be_used() -> None:
    [(name, argument)] = re.findall(r"OTEL_TRACES_SAMPLER=(\w+)\nOTEL_TRACES_SAMPLER_ARG=(\S+)", TEXT)
    making = Making(pytest.fail)
    assert make(name, argument, making).get_description() == "tail{xray{http://127.0.0.1:2000}}"


def test_the_commands_can_be_parsed() -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    sampling.register(parser.add_subparsers())
    commands = re.findall(r"^\$ spanwell (sampling .*)$", TEXT, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert callable(parser.parse_args(shlex.split(command)).run)


def test_what_the_fallback_keeps_without_any_rules() -> None:
    clock = FakeClock()
    sampler = make("xray_local", "/nowhere", Making(lambda _problem: None, clock=clock))
    kept = [sampler.should_sample(None, trace_id, "x").decision.is_sampled() for trace_id in (0, 0, (1 << 56) - 1)]
    assert kept == [True, False, True]
    assert TEXT.count("1 trace a second, then 5 %") == 2
