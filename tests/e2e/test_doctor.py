"""`python -m spanwell doctor` and `config`, as a user runs them: right, clear, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spanwell.settings import Settings
from support.collector import Collector, collector, deaf_listener, status
from support.started import Done, clean, register

pytestmark = pytest.mark.slow

DEAD = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def otlp() -> Iterator[Collector]:
    with collector() as made:
        yield made


def spanwell(*arguments: str, **env: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "spanwell", *arguments],
        env=clean(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def doctor(*arguments: str, **env: str) -> tuple[int, list[dict[str, str]]]:
    """Exit status and findings."""
    done = spanwell("doctor", "--json", *arguments, **env)
    assert done.err == ""
    return done.code, json.loads(done.out)["findings"]


def problems(found: list[dict[str, str]]) -> list[str]:
    return [finding["text"] for finding in found if finding["level"] == "problem"]


def texts(found: list[dict[str, str]], topic: str) -> str:
    return "\n".join(finding["text"] for finding in found if finding["topic"] == topic)


# --- healthy ----------------------------------------------------------------------------------------------------


def test_all_is_well_with_a_live_collector(otlp: Collector) -> None:
    code, found = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_SERVICE_NAME="shop")
    assert problems(found) == []
    assert code == 0
    assert f"http/protobuf to {otlp.url}/v1/traces" in texts(found, "exporters")
    assert "the endpoint answers an empty export request" in texts(found, "exporters")
    assert "service.name is set by you: shop" in texts(found, "service")
    assert otlp.spans() == []


def test_the_text_is_for_people(otlp: Collector) -> None:
    done = spanwell("doctor", OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, COLUMNS="80")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == "versions"
    assert lines[-1] == "no problems found"
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith("  ") or not line.startswith(" ") for line in lines)
    assert "\x1b" not in done.out
    assert "\x1b[32mok" in spanwell("doctor", "--offline", FORCE_COLOR="1").out


def test_offline_it_makes_no_connection() -> None:
    with collector() as otlp:
        code, found = doctor("--offline", OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url)
        assert otlp.connections == 0
    assert (code, problems(found)) == (0, [])


def test_the_headers_are_sent_and_never_shown() -> None:
    with collector() as otlp:
        done = spanwell(
            "doctor", OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url, OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20secret"
        )
        assert otlp.posts[0].headers["authorization"] == "Bearer secret"
    assert done.code == 0
    assert "secret" not in done.out


# --- problems ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "text"),
    [
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": DEAD},
            "nothing is reachable at http://127.0.0.1:1/v1/traces (Connection refused",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT='localhost:4318' is no URL"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "is no URL such as http://localhost:4318"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}, "port 4317 is for gRPC"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "port 4318 is for HTTP",
        ),
        ({"OTEL_TRACES_SAMPLER": "sometimes"}, "sampler sometimes"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"}, "sampler traceidratio"),
        ({"OTEL_PROPAGATORS": "tracecontext,b17"}, "propagator b17"),
        ({"OTEL_TRACES_EXPORTER": "zipkin_of_old"}, "exporter zipkin_of_old"),
        ({"OTEL_METRICS_EXPORTER": "nothing"}, "metrics exporter nothing"),
        ({"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,crystal_ball"}, "resource detector crystal_ball"),
        ({"OTEL_PYTHON_ID_GENERATOR": "dice"}, "id generator dice"),
        ({"SPANWELL_SHUTDOWN_TIMEOUT": "soon"}, "SPANWELL_SHUTDOWN_TIMEOUT='soon' is not a number of seconds"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "secret"}, "OTEL_EXPORTER_OTLP_HEADERS is no list"),
        (
            {"SPANWELL_INSIGHTS": "true", "SPANWELL_INSIGHT_THRESHOLDS": "n_plus_on.count=9"},
            "'n_plus_on.count' is no threshold (did you mean n_plus_one.count?)",
        ),
        ({"OTEL_PYTHON_DISTRO": "aws_distro"}, "OTEL_PYTHON_DISTRO=aws_distro"),
        ({"OTEL_CONFIG_FILE": "/nowhere.yaml"}, "OTEL_CONFIG_FILE='/nowhere.yaml' cannot be used"),
        ({"OTEL_TRACES_EXPORTER": "sqlite", "SPANWELL_SQLITE_PATH": "/dev/null/t.db"}, "cannot be written"),
        ({"OTEL_TRACES_EXPORTER": "sqlite", "SPANWELL_SQLITE_PATH": "/tmp"}, "/tmp is a folder"),
    ],
)
def test_a_problem_is_named_and_the_exit_status_is_1(env: dict[str, str], text: str) -> None:
    offline = [] if env.get("OTEL_EXPORTER_OTLP_ENDPOINT") == DEAD else ["--offline"]
    code, found = doctor(*offline, **env)
    assert code == 1
    [problem] = problems(found)
    assert text in problem
    assert "secret" not in problem
    shown = spanwell("doctor", *offline, **env)
    assert shown.code == 1
    assert "  problem  " in shown.out
    assert shown.out.endswith("1 problem found\n")


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (401, "credentials"),
        (403, "denied"),
        (404, "without /v1/traces"),
        (503, "not well"),
        (301, "no OTLP receiver"),
    ],
)
def test_what_the_receiver_answers_is_explained(code: int, hint: str) -> None:
    with collector(status(code)) as otlp:
        exit_status, found = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url)
    assert exit_status == 1
    [problem] = problems(found)
    assert f"answers {code}" in problem
    assert hint in problem


def test_an_endpoint_that_hangs_is_given_up() -> None:
    with deaf_listener() as url:
        code, found = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=url)
    assert code == 1
    assert "does not answer within" in problems(found)[0]


def test_http_json_is_fine_and_of_upstream_a_note(otlp: Collector) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}
    code, found = doctor(**env)
    assert code == 0
    assert f"http/json to {otlp.url}" in texts(found, "exporters")
    assert otlp.posts[-1].headers["content-type"] == "application/json"
    code, found = doctor(**env, SPANWELL_OTLP="upstream")
    assert code == 0
    assert "http/json is not supported for traces; using http/protobuf" in texts(found, "exporters")


def test_two_distros(tmp_path: Path, otlp: Collector) -> None:
    register(tmp_path, "other_distro", "opentelemetry_distro", "aws_distro = nowhere:Distro")
    env = {"PYTHONPATH": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url}
    code, found = doctor(**env)
    assert code == 1
    assert "also installed: aws-opentelemetry-distro" in problems(found)[0]
    assert "OTEL_PYTHON_DISTRO=spanwell" in problems(found)[0]
    code, found = doctor(**env, OTEL_PYTHON_DISTRO="spanwell")
    assert (code, problems(found)) == (0, [])


# --- instrumentors and losses -----------------------------------------------------------------------------------


def test_the_instrumentors_are_listed_by_what_becomes_of_them(tmp_path: Path) -> None:
    register(
        tmp_path, "instrumentor_of_a_missing", "opentelemetry_instrumentor", "missing_library = nowhere:Instrumentor"
    )
    info = tmp_path / "instrumentor_of_a_missing-1.0.dist-info" / "METADATA"
    info.write_text(
        info.read_text() + "Provides-Extra: instruments\nRequires-Dist: no-such-library; extra == 'instruments'\n"
    )
    register(tmp_path, "instrumentor_of_an_old", "opentelemetry_instrumentor", "old_library = nowhere:Instrumentor")
    info = tmp_path / "instrumentor_of_an_old-1.0.dist-info" / "METADATA"
    info.write_text(
        info.read_text() + "Provides-Extra: instruments\nRequires-Dist: flask<0.1; extra == 'instruments'\n"
    )
    code, found = doctor(
        "--offline",
        PYTHONPATH=str(tmp_path),
        OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="requests",
        OTEL_LOGS_EXPORTER="otlp",
    )
    lines = texts(found, "instrumentors").splitlines()

    def listed(start: str) -> list[str]:
        [line] = [line for line in lines if line.startswith(start)]
        return line.partition(": ")[2].split(", ")

    assert {"flask", "botocore", "sqlalchemy"} <= set(listed("deferred until"))
    assert {"logging", "threading"} <= set(listed("applied with the SDK's"))
    assert listed("switched off by") == ["requests"]
    assert "missing_library" in listed("of no use here")
    assert code == 1
    [conflict] = problems(found)
    assert conflict.startswith("old_library: ")
    assert "flask" in conflict


def test_recorded_losses_are_shown(tmp_path: Path) -> None:
    db = tmp_path / "traces.db"
    env = {"OTEL_TRACES_EXPORTER": "sqlite", "SPANWELL_SQLITE_PATH": str(db)}
    assert "none recorded" in texts(doctor(**env)[1], "losses")
    source = "from opentelemetry import trace\nwith trace.get_tracer('x').start_as_current_span('s'): pass"
    subprocess.run(
        [sys.executable, "-m", "spanwell", "run", "--", sys.executable, "-c", source],
        env=clean(**{**env, "OTEL_TRACES_EXPORTER": "sqlite,otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": DEAD}),
        check=True,
        capture_output=True,
        timeout=60,
    )
    code, found = doctor(**env)
    assert code == 0
    assert texts(found, "losses") == "1 spans: export failed (otlp)"


def test_a_sqlite_file_that_is_none(tmp_path: Path) -> None:
    db = tmp_path / "traces.db"
    db.write_text("this is no database, but long enough to be looked at" * 100)
    code, found = doctor(OTEL_TRACES_EXPORTER="sqlite", SPANWELL_SQLITE_PATH=str(db))
    assert code == 1
    assert str(db) in problems(found)[-1]


# --- config -----------------------------------------------------------------------------------------------------


def test_config_shows_what_is_set_and_where_it_comes_from() -> None:
    done = spanwell("config", OTEL_TRACES_SAMPLER="always_off", SPANWELL_SHUTDOWN_TIMEOUT="2.5")
    assert done.code == 0
    assert done.out.splitlines() == [
        "SPANWELL_SHUTDOWN_TIMEOUT  2.5  (environment)",
        "OTEL_TRACES_SAMPLER        always_off  (environment)",
        "everything else has its default; see `spanwell config --all`",
    ]


def test_config_all_and_json_show_every_setting() -> None:
    every = {row.variable for row in Settings.rows()}
    shown = spanwell("config", "--all")
    assert {line.split()[0] for line in shown.out.splitlines()} == every
    found = json.loads(spanwell("config", "--json").out)
    assert set(found["settings"]) == every
    assert found["problems"] == []
    assert found["settings"]["OTEL_TRACES_EXPORTER"] == {"value": ["otlp"], "source": "default"}


def test_config_with_a_bad_value() -> None:
    for form in ([], ["--json"], ["--all"]):
        done = spanwell("config", *form, OTEL_BSP_MAX_QUEUE_SIZE="many")
        assert done.code == 1
        assert "OTEL_BSP_MAX_QUEUE_SIZE='many'" in done.out
        assert "using 2048" in done.out


def test_a_password_in_a_url_is_never_printed() -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:secret@127.0.0.1:1"}
    for command in (["config"], ["config", "--json"], ["doctor"], ["doctor", "--json"]):
        done = spanwell(*command, **env)
        assert "127.0.0.1:1" in done.out
        assert "secret" not in done.out + done.err


# --- any environment ----------------------------------------------------------------------------------------------

VARIABLES = sorted({row.variable for row in Settings.rows()} | {"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_PYTHON_DISTRO"})
VALUES = st.one_of(
    st.sampled_from(
        ["", "none", "otlp", "sqlite", "grpc", "xray", "0", "-1", "1e400", "true", "*", ",,", "http://", "a=b"]
    ),
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=20),
)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(env=st.dictionaries(st.sampled_from(VARIABLES), VALUES, min_size=1, max_size=20))
def test_no_environment_makes_a_traceback(env: dict[str, str]) -> None:
    for command in (["doctor", "--offline"], ["doctor", "--offline", "--json"], ["config", "--all"]):
        done = spanwell(*command, **env, PYTHONUTF8="1")
        assert done.code in (0, 1)
        assert "Traceback" not in done.err
        assert done.out


@settings(max_examples=150, deadline=None)
@given(env=st.dictionaries(st.sampled_from(VARIABLES), VALUES, min_size=1, max_size=20))
def test_no_environment_makes_the_findings_raise(env: dict[str, Any]) -> None:
    from spanwell.cli.findings import findings

    found = list(findings({**env, "HOME": os.fspath(Path.home())}, online=False))
    assert {finding.level for finding in found} <= {"ok", "note", "problem"}
