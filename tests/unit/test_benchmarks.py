"""The benchmark's own arithmetic, tables and process handling; the figures themselves are not tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks import children, imports, table, targets  # noqa: E402
from benchmarks.children import ChildError  # noqa: E402
from benchmarks.rounds import Samples, interleave  # noqa: E402
from benchmarks.stats import ratio, summarise  # noqa: E402
from benchmarks.table import Column, Result, Row  # noqa: E402


def result(**medians: float) -> Result:
    rows = [Row(key, f"the {key}", Samples({"cpu": [value]})) for key, value in medians.items()]
    return Result("import", "Importing", (Column("cpu", "CPU ms", 1e3),), rows, base="bare")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], (7.0, 7.0, 7.0, 1)),
        ([4.0, 1.0, 3.0, 2.0], (2.5, 1.75, 3.25, 4)),
        ([5.0, 1.0, 3.0], (3.0, 2.0, 4.0, 3)),
    ],
)
def test_summary_is_median_and_linear_quartiles(values, expected):
    summary = summarise(values)
    assert (summary.median, summary.low, summary.high, summary.count) == expected


def test_no_values_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        summarise([])


def test_ratio_to_nothing_is_none():
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(3.0, 0.0) is None


def test_rounds_interleave_and_the_warm_one_does_not_count():
    order: list[str] = []

    def job(key):
        def run():
            order.append(key)
            return {"cpu": float(len(order))}

        return run

    found = interleave({"a": job("a"), "b": job("b")}, repeats=2)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert found["a"].values == {"cpu": [3.0, 5.0]}
    assert found["b"].values == {"cpu": [4.0, 6.0]}


def test_a_failing_job_is_left_out_and_the_others_go_on():
    calls: list[str] = []

    def fails():
        calls.append("fails")
        raise ChildError("exit 1: boom")

    found = interleave({"bad": fails, "good": lambda: {"cpu": 1.0}}, repeats=3)
    assert calls == ["fails"]
    assert found["bad"].error == "exit 1: boom"
    assert found["good"].values["cpu"] == [1.0, 1.0, 1.0]


def test_out_of_time_still_gives_three_rounds():
    now = iter(range(0, 1000, 100))
    found = interleave(
        {"a": lambda: {"cpu": 1.0}}, repeats=50, warm=False, budget=10.0, clock=lambda: float(next(now))
    )
    assert len(found["a"].values["cpu"]) == 3


def test_a_table_shows_medians_spread_and_ratios():
    rows = [
        Row("bare", "bare", Samples({"cpu": [0.01, 0.02, 0.03]})),
        Row("run", "`spanwell run`", Samples({"cpu": [0.03, 0.03, 0.03]})),
    ]
    text = table.markdown(Result("pass", "Start", (Column("cpu", "CPU ms", 1e3),), rows, base="bare"))
    assert "## Start" in text
    assert "of 3 interleaved runs" in text
    assert "|  | CPU ms | x |" in text
    assert "| bare | 20.0 (15.0-25.0) | 1.00 |" in text
    assert "| `spanwell run` | 30.0 (30.0-30.0) | 1.50 |" in text


def test_a_failure_is_a_marked_row_of_the_right_width():
    rows = [Row("bare", "bare", Samples({"cpu": [1.0]})), Row("adot", "ADOT", Samples(error="exit 1: a | b\nc"))]
    text = table.markdown(Result("pass", "Start", (Column("cpu", "CPU ms", 1),), rows, base="bare"))
    assert "| ADOT | **failed**: exit 1: a / b c |  |" in text


def test_ratios_are_left_out_when_the_base_failed():
    rows = [Row("bare", "bare", Samples(error="gone")), Row("run", "run", Samples({"cpu": [1.0]}))]
    text = table.markdown(Result("pass", "Start", (Column("cpu", "CPU s", 1),), rows, base="bare"))
    assert "| run | 1.0 | - |" in text


def test_targets_say_met_missed_and_not_measured():
    text = targets.markdown({"import": result(bare=0.2, run=0.26, instrument=0.4)})
    assert "| 1.35x | 1.30x | met |" in text
    assert "| 1.8x | 2.00x | **missed by 11.1 %** |" in text
    assert "| 1.45x | - | not measured |" in text


def test_every_target_names_something_that_is_measured():
    from benchmarks.sections import SECTIONS

    known = {section.name: section.keys for section in SECTIONS}
    for target in targets.TARGETS:
        assert target.row in known[target.section]
        assert not target.base or target.base in known[target.section]


def test_every_contender_of_a_section_is_known():
    from benchmarks import contenders, envs, sections

    assert {contender.environment for contender in contenders.ALL.values()} == set(envs.REQUIREMENTS)
    for section in sections.SECTIONS:
        if section.scripts is None and section.name not in ("span", "size"):
            assert set(section.keys) <= set(contenders.ALL)
        assert section.environments(frozenset()) <= set(envs.REQUIREMENTS)


def test_an_error_is_told_without_the_folders_of_this_machine():
    text = "Traceback ...\nFileNotFoundError: [Errno 2] No such file: '/home/me/repo/.envs/bin/spanwell'\n"
    assert children.told(text) == "FileNotFoundError: [Errno 2] No such file: 'spanwell'"


def test_importtime_output_is_parsed_and_summed_by_package():
    text = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:       100 |        100 |   spanwell._guard\n"
        "import time:        40 |        150 | spanwell._run\n"
        "import time:        25 |         25 | opentelemetry.sdk.trace\n"
        "import time:        25 |         25 | opentelemetry.sdk.util\n"
        "something else\n"
    )
    found = imports.parse(text)
    assert [(item.name, item.own, item.total) for item in found[:2]] == [
        ("spanwell._guard", 100, 100),
        ("spanwell._run", 40, 150),
    ]
    assert imports.packages(found)[1:] == [("opentelemetry.sdk", 50, 2), ("spanwell._run", 40, 1)]


@pytest.mark.slow
def test_a_child_is_timed_and_its_answer_read():
    script = "import json; sum(range(10**6)); print(json.dumps({'over': 1}))"
    child = children.run((sys.executable, "-c", script), dict(os.environ), 30)
    assert child.answer == {"over": 1}
    assert 0 < child.cpu <= child.wall * (os.cpu_count() or 1) + 0.1
    assert 1e6 < child.peak_rss < 1e9


@pytest.mark.slow
def test_a_child_without_an_answer_has_no_figures():
    child = children.run((sys.executable, "-c", "print('{broken')"), dict(os.environ), 30)
    with pytest.raises(ChildError, match="gave no over"):
        child.figure("over")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "timeout", "message"),
    [
        ("raise SystemExit(3)", 30, "exit 3"),
        ("raise RuntimeError('boom')", 30, "exit 1: RuntimeError: boom"),
        ("import time; time.sleep(60)", 0.5, "no end after"),
    ],
)
def test_a_child_that_fails_or_hangs_is_an_error_in_one_line(script, timeout, message):
    with pytest.raises(ChildError, match=message) as caught:
        children.run((sys.executable, "-c", script), dict(os.environ), timeout)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_program_that_is_missing_is_an_error():
    with pytest.raises(ChildError, match="No such file"):
        children.run(("/nonexistent/python",), dict(os.environ), 30)


def bench(*arguments):
    command = [sys.executable, "-m", "benchmarks", "--quick", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_smoke_run_on_this_interpreter_prints_and_saves_its_tables(tmp_path):
    raw = tmp_path / "raw.json"
    here = ("--use-env", f"bare={sys.prefix}", "--use-env", f"upstream={sys.prefix}")
    done = bench("--only", "pass,span", "--contenders", "bare,sdk", *here, "--json", str(raw))
    assert done.returncode == 0, done.stderr
    assert "# Benchmarks" in done.stdout
    assert "## Cold start of `python -c pass`" in done.stdout
    assert "| plain SDK, no processor |" in done.stdout
    samples = json.loads(raw.read_text())
    assert len(samples["pass"]["bare"]["cpu"]) == 2
    assert all(value > 0 for value in samples["span"]["sdk"]["pair"])


@pytest.mark.slow
def test_a_contender_that_cannot_start_becomes_a_row_and_the_exit_code_says_so(tmp_path):
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (tmp_path / "lib" / version / "site-packages").mkdir(parents=True)
    environments = ("--use-env", f"bare={sys.prefix}", "--use-env", f"adot={tmp_path}")
    done = bench("--only", "pass", "--contenders", "bare,adot", *environments)
    assert done.returncode == 1
    assert "| ADOT, traces | **failed**: " in done.stdout
    assert "| bare | " in done.stdout
