"""The parts of a start that need no process: PYTHONPATH, where we are, propagators, forks, the start-up line."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import propagate
from opentelemetry.sdk.resources import Resource

from spanwell import _forks, _guard
from spanwell.__main__ import boot_folder, python_path
from spanwell.configurator import Wiring
from spanwell.lazy import Instrumentors
from spanwell.propagation.xray import XRayPropagator
from spanwell.propagators import set_propagators
from spanwell.settings import Settings
from spanwell.summary import summary
from spanwell.where import aws_platform, is_deployed, on_lambda

# --- PYTHONPATH ----------------------------------------------------------------------------------------------------

entries = st.lists(st.text("abc/. ", min_size=1), min_size=1).map(os.pathsep.join)


@given(entries)
def test_the_boot_folder_comes_first_and_once_and_the_rest_stays(current: str) -> None:
    once = python_path(current, "/boot")
    assert once == f"/boot{os.pathsep}{current}"
    assert python_path(once, "/boot") == once


@pytest.mark.parametrize("current", [None, ""])
def test_no_pythonpath_does_not_become_the_current_folder(current: str | None) -> None:
    assert python_path(current, "/boot") == "/boot"


def test_the_boot_folder_holds_one_module() -> None:
    assert [name for name in os.listdir(boot_folder()) if name.endswith(".py")] == ["sitecustomize.py"]


# --- where ---------------------------------------------------------------------------------------------------------


def _files(**found: str) -> Callable[[str], str]:
    return lambda path: found.get(path.rsplit("/", 1)[1].replace(".", "_"), "")


EC2 = {"sys_vendor": "Amazon EC2\n"}


@pytest.mark.parametrize(
    ("environ", "files", "platform", "deployed"),
    [
        ({}, {}, "", False),
        ({}, {"sys_vendor": "LENOVO"}, "", False),
        ({}, EC2, "aws_ec2", True),
        ({}, {"board_asset_tag": "i-0123456789abcdef0"}, "aws_ec2", True),
        ({}, {"uuid": "ec2e1916-9099-7caf-fd21-012345abcdef"}, "aws_ec2", True),
        ({}, {**EC2, "environment_conf": "{}"}, "aws_elastic_beanstalk", True),
        ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, {}, "aws_lambda", True),
        ({"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4"}, EC2, "aws_ecs", True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, EC2, "aws_eks", True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, {}, "", True),
        ({"AWS_EXECUTION_ENV": "CloudShell"}, {}, "", True),
    ],
)
def test_where(environ: Mapping[str, str], files: dict[str, str], platform: str, deployed: bool) -> None:
    assert aws_platform(environ, _files(**files)) == platform
    assert is_deployed(environ, _files(**files)) is deployed
    assert on_lambda(environ) is (platform == "aws_lambda")


# --- propagators ---------------------------------------------------------------------------------------------------


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = propagate.get_global_textmap()
    monkeypatch.setattr(_guard, "_warned", set())
    yield
    propagate.set_global_textmap(before)


def _set(value: str) -> list[str]:
    set_propagators(Settings.from_env({"OTEL_PROPAGATORS": value}))
    return [type(each).__name__ for each in getattr(propagate.get_global_textmap(), "_propagators", ())]


@pytest.mark.usefixtures("restored")
def test_the_plain_name_xray_is_ours() -> None:
    assert _set("xray") == ["XRayPropagator"]
    assert isinstance(propagate.get_global_textmap()._propagators[0], XRayPropagator)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("restored")
def test_order_case_and_doubles() -> None:
    assert _set("XRay, tracecontext,baggage,xray") == [
        "XRayPropagator",
        "TraceContextTextMapPropagator",
        "W3CBaggagePropagator",
    ]


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("value", ["none", "tracecontext,none", "smoke"])
def test_no_propagator_carries_nothing_and_keeps_the_context(value: str) -> None:
    assert _set(value) == []
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    assert carrier == {}
    assert propagate.extract({"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}) == {}


@pytest.mark.usefixtures("restored")
def test_an_unknown_one_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    assert _set("tracecontext,smoke") == ["TraceContextTextMapPropagator"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "OTEL_PROPAGATORS" in caplog.text
    assert "'smoke'" in caplog.text


# --- the start-up line ---------------------------------------------------------------------------------------------


def test_summary_of_nothing() -> None:
    settings = Settings.from_env({"OTEL_TRACES_EXPORTER": "none"})
    line = summary(Wiring(settings), Instrumentors())
    assert re.fullmatch(
        r"spanwell [\d.]+: service=\? exporter=none sampler= propagators=\S+ instrumentors=0 .*", line
    )


@pytest.mark.parametrize("user", [True, False])
def test_summary_hints_at_the_name_only_when_it_is_a_guess(user: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from spanwell.resource import service_name

    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    if user:
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    else:
        monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    wiring = Wiring(Settings.from_env(os.environ))
    wiring.resource = Resource({"service.name": service_name(os.environ)[0]})
    line = summary(wiring, Instrumentors())
    assert ("OTEL_SERVICE_NAME" in line) is not user
    assert "\n" not in line


# --- forks ---------------------------------------------------------------------------------------------------------


def test_a_fork_waits_for_other_threads_and_not_for_its_own() -> None:
    whole = _forks._Whole()
    inside, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        with whole, whole:
            inside.set()
            leave.wait()
            order.append("left")

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    with whole:
        threading.Timer(0.05, leave.set).start()
        whole.wait()
        order.append("forked")
    thread.join()
    assert order == ["left", "forked"]


def test_a_fork_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_forks, "PATIENCE", 0.01)
    whole = _forks._Whole()
    whole._threads.append(-1)
    whole.wait()
    whole.forget()
    assert whole._threads == []
