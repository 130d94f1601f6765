"""What OpenTelemetry's modules get in the place of some of their imports behaves as they need it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from types import ModuleType

import pytest

from spanwell import _triggers
from spanwell._otel import stand_ins


def run(code: str) -> str:
    """What `code` prints in a process whose import hook gives the stand-ins, as `spanwell run` does."""
    start = (
        "import sys\nfrom spanwell._hook import Hook\nfrom spanwell import late, _triggers\n"
        "Hook(late.imported, late.importing, _triggers.ALSO_WATCHED).install()\n"
    )
    done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_hook_watches_every_module_with_stand_ins() -> None:
    assert set(stand_ins.STAND_INS) <= _triggers.ALSO_WATCHED
    assert set(stand_ins.STAND_INS) >= _triggers.STAND_INS


def test_the_sdk_is_imported_without_what_it_does_not_need() -> None:
    code = (
        "sys.modules['psutil'] = None\n"  # the SDK imports it where it is installed, and it imports some of these
        "before = set(sys.modules)\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "spared = {'inspect', 'dataclasses', 'typing_extensions'} - before\n"
        "print(len(spared), sorted(spared & set(sys.modules)))"
    )
    assert run(code) == "3 []"


def test_modules_that_are_imported_already_are_used() -> None:
    code = (
        "import dataclasses, typing_extensions\n"
        "from opentelemetry.metrics import CallbackOptions\n"
        "print(dataclasses.is_dataclass(CallbackOptions))"
    )
    assert run(code) == "True"


def test_only_the_modules_own_imports_see_them() -> None:
    code = (
        "import opentelemetry.sdk.trace, opentelemetry.trace\n"
        "import dataclasses, inspect, typing_extensions, platform\n"
        "print(dataclasses.dataclass.__module__, inspect.isfunction(len), platform.system() != '',"
        " typing_extensions.deprecated is not None)"
    )
    assert run(code) == "dataclasses False True True"


def test_what_uses_them_later_gets_the_real_ones() -> None:
    code = (
        "from opentelemetry.sdk.resources import OsResourceDetector\n"
        "from opentelemetry import trace\n"
        "import asyncio\n"
        "tracer = trace.NoOpTracer()\n"
        "@tracer.start_as_current_span('a')\n"
        "async def work():\n    return 3\n"
        "from opentelemetry.util.re import parse_env_headers\n"
        "from opentelemetry.baggage.propagation import W3CBaggagePropagator\n"
        "from opentelemetry import baggage\n"
        "carrier = {}\n"
        "W3CBaggagePropagator().inject(carrier, baggage.set_baggage('a', 'ä b'))\n"
        "print(OsResourceDetector().detect().attributes['os.type'], asyncio.run(work()),"
        " parse_env_headers('a=b%20c', liberal=True), carrier)"
    )
    assert run(code) == "linux 3 {'a': 'b c'} {'baggage': 'a=%C3%A4+b'}"


def test_metrics_and_tracer_configs_work_with_them() -> None:
    code = (
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "from opentelemetry.metrics import Observation, CallbackOptions\n"
        "reader = InMemoryMetricReader()\n"
        "meter = MeterProvider([reader]).get_meter('m')\n"
        "seen = []\n"
        "meter.create_observable_gauge('g', [lambda options: seen.append(options) or [Observation(1)]])\n"
        "meter.create_histogram('h', explicit_bucket_boundaries_advisory=[1.0, 2.0]).record(1)\n"
        "data = reader.get_metrics_data()\n"
        "print(len(data.resource_metrics[0].scope_metrics[0].metrics), seen[0].timeout_millis > 0)"
    )
    assert run(code) == "2 True"


# --- dataclass ----------------------------------------------------------------------------------------------------


def make(frozen: bool) -> type:
    class Point:
        x: int
        y: float = 2.5

        @classmethod
        def origin(cls) -> Point:
            return cls(x=0)  # type: ignore[call-arg]

    made: type = stand_ins._Dataclasses.dataclass(frozen=frozen)(Point)
    return made


def test_a_class_of_fields() -> None:
    point = make(False)
    one = point(1)
    assert (one.x, one.y) == (1, 2.5)
    assert one == point(x=1) != point(1, 3.0)
    assert one != (1, 2.5)
    assert repr(one).endswith("Point(x=1, y=2.5)")
    one.x = 7
    assert one.x == 7
    assert point.origin().x == 0  # type: ignore[attr-defined]
    assert point.__hash__ is None


@pytest.mark.parametrize(("given", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1})])
def test_wrong_arguments_raise(given: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point takes x, y"):
        make(False)(*given, **named)


def test_a_frozen_one() -> None:
    point = make(True)
    with pytest.raises(AttributeError, match="'x'"):
        point(1).x = 2
    assert len({point(1), point(1)}) == 1


# --- deprecated -----------------------------------------------------------------------------------------------------


def test_a_deprecated_function_warns_and_works() -> None:
    @stand_ins._TypingExtensions.deprecated("use another")
    def old(number: int) -> int:
        return number + 1

    with pytest.warns(DeprecationWarning, match="use another"):
        assert old(1) == 2
    assert old.__name__ == "old"


def test_a_deprecated_class_is_marked() -> None:
    @stand_ins._TypingExtensions.deprecated("gone soon")
    class Old:
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Old()
    assert Old.__deprecated__ == "gone soon"


def test_a_module_gets_its_own_builtins_back() -> None:
    module = ModuleType("opentelemetry.util.re")
    stand_ins.begin(module)
    stand_ins.end(module)
    exec("import json\nfound = json", vars(module))
    assert vars(module)["found"] is sys.modules["json"]
