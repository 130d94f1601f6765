"""AWS_XRAY_ADAPTIVE_SAMPLING_CONFIG: what is read, what is refused, in which words."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest

from spanwell.sampling import adaptive_config
from spanwell.sampling.adaptive_config import Condition, Config, read

DOCUMENTED = """
version: 1.0
anomalyConditions:
  - errorCodeRegex: "^5\\\\d\\\\d$"
    operations: ["GET /api"]
    highLatencyMs: 300
    usage: both
  - {highLatencyMs: 1000, usage: sampling-boost}
  - {errorCodeRegex: "429", usage: anomaly-trace-capture}
anomalyCaptureLimit:
  anomalyTracesPerSecond: 7
"""


def read_well(text: str) -> Config:
    said: list[str] = []
    config = read(text, said.append)
    assert config is not None
    assert said == []
    return config


def conditions(*given: object, **more: object) -> str:
    return json.dumps({"version": 1.0, "anomalyConditions": list(given), **more})


def test_every_field_of_the_documented_example() -> None:
    config = read_well(DOCUMENTED)
    first, second, third = config.conditions
    assert (first.operations, first.slow_ns, first.boosts, first.captures) == ({"GET /api"}, 300e6, True, True)
    assert (second.operations, second.boosts, second.captures) == (None, True, False)
    assert (third.boosts, third.captures) == (False, True)
    assert first.holds("503", 300_000_000)
    assert not first.holds("503", 299_999_999)
    assert not first.holds("404", 400_000_000)
    assert config.traces_per_second == 7


@pytest.mark.parametrize("form", ["yaml", "json", "yaml in braces"])
def test_a_path_or_the_text_itself_in_each_form(form: str, tmp_path: Path) -> None:
    text = {
        "yaml": "version: 1.0\nanomalyConditions:\n- highLatencyMs: 5\n",
        "json": '{"version": "1.0", "anomalyConditions": [{"highLatencyMs": 5}]}',
        "yaml in braces": "{version: 1, anomalyConditions: [{highLatencyMs: 5}]}",
    }[form]
    path = tmp_path / "anything"
    path.write_text(text)
    for given in (text, f"  {text}\n", str(path)):
        assert [each.slow_ns for each in read_well(given).conditions] == [5e6]


def test_nothing_configured() -> None:
    said: list[str] = []
    assert read("", said.append) is None
    assert read(" \n", said.append) is None
    assert said == []


@pytest.mark.parametrize(
    "text", ["version: 1.0", "{version: 1.9, anomalyConditions: []}", "{version: 1, anomalyConditions: }"]
)
def test_defaults(text: str) -> None:
    config = read_well(text)
    assert config.conditions == ()
    assert config.traces_per_second == 1.0
    assert config.captures


@pytest.mark.parametrize(
    ("usage", "boosts", "captures"),
    [
        ("both", True, True),
        (None, True, True),
        ("sampling-boost", True, False),
        ("anomaly-trace-capture", False, True),
        ("neither", False, False),
    ],
)
def test_usages(usage: str | None, boosts: bool, captures: bool) -> None:
    config = read_well(conditions({"highLatencyMs": 1, "usage": usage}))
    assert (config.conditions[0].boosts, config.conditions[0].captures) == (boosts, captures)
    assert config.captures is captures


def test_a_limit_of_zero_captures_nothing() -> None:
    assert not read_well("{version: 1, anomalyCaptureLimit: {anomalyTracesPerSecond: 0}}").captures


@pytest.mark.parametrize(
    ("regex", "code", "matches"),
    [
        ("^5\\d\\d$", "500", True),
        ("5", "500", False),  # defect 8: a prefix is no match
        ("50", "500", False),
        ("5..|429", "429", True),
        ("5..|429", "4290", False),
        (503, "503", True),
        ("5.*", "", False),
        ("5.*", "5" * 17, False),
        ("(5+)+(5+)+(5+)+x", "5" * 16, False),
    ],
)
def test_full_matches_of_a_bounded_text(regex: object, code: str, matches: bool) -> None:
    (condition,) = read_well(conditions({"errorCodeRegex": regex})).conditions
    for _ in range(2):
        assert condition.holds(code, 0) is matches


def test_verdicts_are_kept_within_a_bound() -> None:
    condition = Condition(re.compile("[1-4]..|5[0-9]*"))
    for code in range(1000):
        assert condition.holds(str(code), 0) is (100 <= code < 500 or str(code)[0] == "5")
    assert len(condition._verdicts) == adaptive_config._MAX_VERDICTS


BAD_CONDITIONS: list[tuple[Any, str]] = [
    (5, "anomalyConditions[0]=5 is no mapping"),
    (None, "anomalyConditions[0]=None is no mapping"),
    ({"usage": "both"}, "anomalyConditions[0] has neither errorCodeRegex nor highLatencyMs"),
    (
        {"errorCodeRegex": "5(", "highLatencyMs": 1},
        "anomalyConditions[0].errorCodeRegex='5(' is no regular expression",
    ),
    ({"errorCodeRegex": ["5"]}, "anomalyConditions[0].errorCodeRegex=['5'] is no regular expression such as"),
    ({"errorCodeRegex": True}, "anomalyConditions[0].errorCodeRegex=True is no regular expression"),
    ({"highLatencyMs": "300ms"}, "anomalyConditions[0].highLatencyMs='300ms' is not a number of milliseconds from 0"),
    ({"highLatencyMs": -1}, "anomalyConditions[0].highLatencyMs=-1 is not a number"),
    ({"highLatencyMs": True}, "anomalyConditions[0].highLatencyMs=True is not a number"),
    ({"highLatencyMs": float("nan")}, "anomalyConditions[0].highLatencyMs=nan is not a number"),
    (
        {"highLatencyMs": 1, "usage": "boost"},
        "anomalyConditions[0].usage='boost' is none of both, sampling-boost, an",
    ),
    ({"highLatencyMs": 1, "usage": []}, "anomalyConditions[0].usage=[] is none of"),
    ({"highLatencyMs": 1, "operations": "GET /a"}, "anomalyConditions[0].operations='GET /a' is no list of names"),
    ({"highLatencyMs": 1, "operations": []}, "anomalyConditions[0].operations=[] is no list of names"),
    ({"highLatencyMs": 1, "operations": ["a", 1]}, "anomalyConditions[0].operations=['a', 1] is no list of names"),
    ({"highLatencyMs": 1, "operation": ["a"]}, "anomalyConditions[0].'operation' is no field of it: did you mean op"),
    ({"errorCodeRegex": "5..", "highLatencyMS": 9}, "did you mean highLatencyMs?"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_CONDITIONS)
def test_a_bad_condition_is_named_and_the_good_one_stays(bad: Any, message: str) -> None:
    said: list[str] = []
    config = read(conditions(bad, {"errorCodeRegex": "5.."}), said.append)
    assert config is not None
    assert [each.holds("500", 0) for each in config.conditions] == [True]
    (line,) = said
    assert line.startswith("AWS_XRAY_ADAPTIVE_SAMPLING_CONFIG: anomalyConditions[0]")
    assert message in line
    assert line.endswith("this condition is left out")
    assert "\n" not in line


def test_without_a_good_condition_the_default_applies() -> None:
    said: list[str] = []
    config = read(conditions(5), said.append)
    assert config is not None
    assert config.conditions == ()
    assert "the default one applies" in said[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nowhere.yaml", "there is no file 'nowhere.yaml'"),
        ("just words", "'just words' is no mapping"),
        ("[1, 2", "neither a file nor YAML nor JSON"),
        ("{version: 2.0}", "version=2.0 is not supported, 1.0 is"),
        ("{version: nan}", "version='nan' is not supported"),
        ("{version: [1]}", "version=[1] is not supported"),
        ("{version: true}", "version=True is not supported"),
        ("when: 2023-13-45", "neither a file nor YAML nor JSON"),
        ('{"version": ' + "[" * 100_000, "neither a file nor YAML nor JSON"),
    ],
)
def test_what_switches_it_off(text: str, message: str) -> None:
    said: list[str] = []
    config = read(text, said.append)
    assert config is None
    (line,) = said
    assert message in line
    assert line.endswith("adaptive sampling is off")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{anomalyConditions: [{highLatencyMs: 5}]}", "version is missing; read as 1.0"),
        ("{version: 1, anomalyCondition: []}", "'anomalyCondition' is no field of it"),
        ("{version: 1, anomalyConditions: {highLatencyMs: 5}}", "anomalyConditions={'highLatencyMs': 5} is no list"),
        (
            "{version: 1, anomalyConditions: [{highLatencyMs: 5, description: x}]}",
            "[0].'description' is no field of it",
        ),
        ("{version: 1, anomalyCaptureLimit: 5}", "anomalyCaptureLimit=5 is no mapping"),
        ("{version: 1, anomalyCaptureLimit: {}}", "anomalyCaptureLimit={} is no mapping"),
        (
            "{version: 1, anomalyCaptureLimit: {anomalyTracesPerSecond: many}}",
            "anomalyCaptureLimit.anomalyTracesPerSecond='many' is not a number from 0; 1 trace a second applies",
        ),
    ],
)
def test_what_is_said_and_gone_on_without(text: str, message: str) -> None:
    said: list[str] = []
    config = read(text, said.append)
    assert config is not None
    assert config.traces_per_second == 1.0
    (line,) = said
    assert message in line


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    binary, large = tmp_path / "binary", tmp_path / "large"
    binary.write_bytes(b"\xff\xfe\x00")
    large.write_text("#" * ((1 << 20) + 1))
    for path, message in ((binary, "cannot be read"), (large, "is larger than")):
        said: list[str] = []
        assert read(str(path), said.append) is None
        assert message in said[0]


def test_a_small_file_that_is_a_huge_value_makes_a_short_line() -> None:
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    for level in range(1, 10):
        bomb += f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n"
    said: list[str] = []
    assert read(f"version: 1\n{bomb}anomalyConditions: [{{highLatencyMs: *a9}}]", said.append) is not None
    assert max(len(line) for line in said) < 1000


def test_json_needs_no_yaml_and_yaml_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert read_well('{"version": 1.0}').conditions == ()
    said: list[str] = []
    assert read("version: 1.0", said.append) is None
    assert "pip install 'spanwell[config]'" in said[0]


def test_the_config_extra_brings_pyyaml() -> None:
    wanted = requires("opentelemetry-configuration") or []
    assert any(re.match(r"(?i)pyyaml\b", each) and "extra ==" not in each for each in wanted)
