"""The tables of `benchmarks.coldstart`: differences within a round, verdicts, failures that stay visible."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.coldstart_report import NONE, TARGETS, added, document, tables, targets  # noqa: E402
from benchmarks.rounds import Samples  # noqa: E402

BARE = Samples({"init": [0.030, 0.060, 0.031], "rss": [15e6, 15e6, 15e6]})
OURS = Samples({"init": [0.034, 0.064, 0.035], "rss": [16e6, 16e6, 16e6]})


def test_what_is_added_is_taken_within_each_round():
    drifting = Samples({"init": [0.031, 0.062, 0.034]})
    assert round(added({NONE: BARE, "sampled": drifting}, "sampled", "init"), 6) == 2.0
    assert round(added({NONE: BARE, "sampled": OURS}, "sampled", "rss"), 6) == 1.0


def test_nothing_is_added_by_what_was_not_measured():
    assert added({NONE: BARE}, "sampled", "init") is None
    assert added({NONE: BARE, "sampled": OURS}, "sampled", "warm") is None


def test_a_row_shows_medians_without_a_layer_and_differences_with_one():
    text = tables({NONE: BARE, "sampled": OURS}, {NONE: "no layer", "sampled": "ours"})
    assert "| no layer | 31.0 | - | - | - | - | - | 15.0 | - | - |" in text
    assert "| ours | +4.0 (1.13x) | - | - | - | - | - | +1.0 (1.07x) | - | - |" in text


def test_a_failure_is_a_row_too():
    text = tables({NONE: BARE, "adot": Samples(error="no | handler")}, {NONE: "no layer", "adot": "ADOT"})
    assert "**failed**: no / handler" in text


def test_every_target_has_a_verdict_for_each_python():
    bare_cpu = {"init_cpu": [0.030] * 3, "first_cpu": [0.0] * 3}
    slow = Samples({"init": [0.040, 0.070, 0.041], "init_cpu": [0.032] * 3, "first_cpu": [0.040] * 3})
    results = {
        "3.12": {"hello": {NONE: BARE, "sampled": OURS}},
        "3.13": {"hello": {NONE: Samples({**BARE.values, **bare_cpu}), "sampled": slow}},
    }
    lines = targets(results).splitlines()
    assert len(lines) == 2 + len(TARGETS)
    assert lines[2] == "| init, nothing imported | 5 ms | 4.00: met | 10.00, CPU 2.0: **missed** |"
    assert lines[3].endswith("| not measured | not measured |")


def test_the_page_says_how_many_runs_there_were():
    page = document(["a line"], {"3.13": {"hello": {NONE: BARE}}}, {NONE: "no layer"}, "the command")
    assert "Medians of 3 interleaved runs" in page
    assert "## A handler that imports nothing, Python 3.13" in page
