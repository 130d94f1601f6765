"""What becomes of findings: attributes on the local root, counters, log events; and detectors that fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from spanwell import _guard
from spanwell.insights import written
from spanwell.insights.detectors import LOCAL, NAMES
from spanwell.insights.events import BURST, MOST, Events
from spanwell.insights.loading import load, parse
from spanwell.insights.model import ERROR, INFO, WARNING, Fragment, Insight, Thresholds
from spanwell.insights.written import LIST, PREFIX
from support.watched import Watched, detector, names


def insight(kind: str = "n_plus_one", severity: str = WARNING, subject: str = "GET /", **values: Any) -> Insight:
    return Insight(kind, severity, f"{kind} of {subject}.", (subject,), ("00f067aa0ba902b7",), values)


def test_a_local_root_carries_what_was_found() -> None:
    watched = Watched(detector("seen too", names))
    with watched.tracer.start_as_current_span("GET /"), watched.tracer.start_as_current_span("child"):
        pass
    child, root = watched.exporter.spans
    attributes = dict(root.attributes or {})
    fingerprint = Insight("seen", WARNING, "", ("GET /",)).fingerprint("shop")
    assert attributes == {
        LIST: ("seen",),
        PREFIX + "seen.severity": "warning",
        PREFIX + "seen.sentence": "It was seen.",
        PREFIX + "seen.fingerprint": fingerprint,
        PREFIX + "seen.count": 2,
        PREFIX + "seen.evidence": (f"{child.context.span_id:016x}", f"{root.context.span_id:016x}"),
    }
    assert not child.attributes
    assert [(one.type, told, context) for one, told, context in watched.told] == [("seen", fingerprint, root.context)]


def test_the_same_finding_counts_once_for_a_local_root_and_again_for_the_next() -> None:
    watched = Watched(
        detector("a", lambda fragment: [insight(), insight(), insight(subject="other")]),
        detector("b", lambda fragment: [insight()]),
    )
    for _ in range(2):
        with watched.tracer.start_as_current_span("root"):
            pass
    assert [one.subject[0] for one, _, _ in watched.told] == ["GET /", "other"] * 2


def test_what_is_written_is_bounded_and_the_worst_comes_first() -> None:
    found = [insight(f"kind{number}", INFO, **{f"v{each}": each for each in range(20)}) for number in range(10)]
    found += [insight("worst", ERROR), insight("bad", WARNING), insight("bad", WARNING, "another", text="x" * 5000)]
    watched = Watched(detector("many", lambda fragment: found))
    with watched.tracer.start_as_current_span("root"):
        pass
    assert len(watched.told) == 13
    attributes = watched.exporter.spans[0].attributes
    assert attributes is not None
    assert attributes[LIST] == ("worst", "bad", "kind0", "kind1", "kind2", "kind3", "kind4")
    assert sum(key.startswith(PREFIX + "kind0.v") for key in attributes) == 8
    assert attributes[PREFIX + "bad.2.sentence"] == "bad of another."
    assert attributes[PREFIX + "bad.2.text"] == "x" * 1000
    read = written.read(attributes)
    assert [(one.type, one.severity) for one in read] == [
        ("worst", ERROR),
        ("bad", WARNING),
        ("bad", WARNING),
        *((f"kind{number}", INFO) for number in range(5)),
    ]
    assert read[2].values == {"text": "x" * 1000}
    assert read[3].values == {f"v{each}": each for each in range(8)}
    assert read[0].evidence == ("00f067aa0ba902b7",)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {LIST: "n_plus_one"},
        {LIST: [1, None]},
        {LIST: ["n_plus_one"]},
        {LIST: ["n_plus_one"], PREFIX + "n_plus_one.sentence": 1, PREFIX + "n_plus_one.fingerprint": "f"},
    ],
)
def test_attributes_that_are_no_insights(attributes: dict[str, Any]) -> None:
    assert written.read(attributes) == []


def test_values_do_not_take_the_place_of_the_insight_itself() -> None:
    attributes = written.write([("f" * 16, insight(severity=ERROR, sentence="false", odd=object()))])
    assert attributes[PREFIX + "n_plus_one.sentence"] == "n_plus_one of GET /."
    assert PREFIX + "n_plus_one.odd" not in attributes


# --- detectors that fail --------------------------------------------------------------------------------------------


def broken(fragment: Fragment) -> Iterable[Insight]:
    yield insight("half")
    raise ZeroDivisionError("of the detector")


@pytest.mark.parametrize("where", ["detect", "may"])
def test_a_detector_that_fails_is_switched_off_and_named(where: str, caplog: pytest.LogCaptureFixture) -> None:
    calls = []

    def may(hints: Any) -> bool:
        calls.append(hints)
        if where == "may":
            raise ZeroDivisionError("of the detector")
        return True

    watched = Watched(detector("mine", broken, may), detector("other", lambda fragment: [insight("other")]))
    for _ in range(3):
        with watched.tracer.start_as_current_span("root"):
            pass
    assert len(calls) == 1
    assert [record.message for record in caplog.records] == [
        "spanwell: the insight detector mine failed (ZeroDivisionError: of the detector); "
        "the application goes on without it"
    ]
    assert [one.type for one, _, _ in watched.told].count("other") == 3
    assert len(watched.exporter.spans) == 3
    assert _guard.losses.total("errors") == 1


def test_a_detector_without_an_end_is_cut_off() -> None:
    def endless(fragment: Fragment) -> Iterable[Insight]:
        number = 0
        while True:
            number += 1
            yield insight(subject=str(number))

    watched = Watched(detector("endless", endless))
    with watched.tracer.start_as_current_span("root"):
        pass
    assert len(watched.told) == 20


def test_an_output_that_fails_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(detector("mine", lambda fragment: [insight()]))

    def fails(*found: Any) -> None:
        raise OSError("full")

    watched.insights._tell = (fails, *watched.insights._tell)
    with watched.tracer.start_as_current_span("root"):
        pass
    assert len(watched.told) == 1
    assert len(watched.exporter.spans) == 1


# --- over time ------------------------------------------------------------------------------------------------------


class OverTime:
    """Notes what it is given; something is due at every look."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, float]] = []
        self.looks: list[float] = []

    def observe(self, operation: str, seconds: Sequence[float], now: float) -> None:
        self.seen += [(operation, each) for each in seconds]

    def due(self, now: float) -> list[Insight]:
        self.looks.append(now)
        return [insight("latency_degradation")]


def test_what_judges_operations_sees_each_local_root_and_is_asked_once_a_second() -> None:
    over_time = OverTime()
    watched = Watched(over_time=lambda: [over_time])
    begun = watched.clock.now
    for number in range(200):
        start = 1_000_000_000 + number * 10_000_000
        span = watched.tracer.start_span("GET /", kind=SpanKind.SERVER, start_time=start)
        span.end(end_time=start + 500_000_000)
        watched.tracer.start_span("a call", kind=SpanKind.CLIENT).end()
        watched.clock.now = begun + number * 0.01
    failed = watched.tracer.start_span("fails", start_time=0)
    failed.set_status(StatusCode.ERROR)
    failed.end(end_time=4_000_000_000)
    watched.clock.now += 1
    watched.tracer.start_span("last", start_time=0).end(end_time=6_000_000_000)
    assert over_time.seen == [("GET /", 0.5)] * 200 + [("last", 6.0)]
    assert over_time.looks[0] == begun
    assert all(b - a >= 1 for a, b in zip(over_time.looks, over_time.looks[1:], strict=False))
    assert over_time.looks[-1] == begun + 2.99
    assert len(over_time.looks) == 3
    assert [(one.type, context) for one, _, context in watched.told] == [("latency_degradation", None)] * 3


def test_one_that_fails_is_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(OverTime):
        def due(self, now: float) -> list[Insight]:
            raise ValueError("no")

    good = OverTime()
    watched = Watched(over_time=lambda: [Fails(), good])
    for second in (1, 3):
        watched.tracer.start_span("root", start_time=0).end(end_time=second * 1_000_000_000)
        watched.clock.now += 2
    assert len(good.looks) == 2
    assert [record.message for record in caplog.records] == [
        "spanwell: the insight detector Fails failed (ValueError: no); the application goes on without it"
    ]


# --- which detectors run --------------------------------------------------------------------------------------------


def test_all_detectors_load() -> None:
    problems: list[str] = []
    loaded = load(report=problems.append)
    assert problems == []
    assert [each.NAME for each in loaded.local] == list(LOCAL)
    assert sorted([*loaded.over_time, *LOCAL]) == sorted(NAMES)
    assert all(name.partition(".")[0] == each.NAME for each in loaded.local for name in each.DEFAULTS)


def test_detectors_can_be_switched_off() -> None:
    problems: list[str] = []
    loaded = load(disabled=("slow_db", "latency_degradation", "slow_bd"), report=problems.append)
    assert "slow_db" not in [each.NAME for each in loaded.local]
    assert list(loaded.over_time) == ["tracing_overhead"]
    assert problems == ["'slow_bd' is no detector (did you mean slow_db?); nothing is switched off for it"]


def test_thresholds() -> None:
    problems: list[str] = []
    loaded = load(
        chosen=("slow_trace.duration_ms=3000", "slow_trace.duration_ms@GET /a=b=20", "n_plus_one.count = 7"),
        report=problems.append,
    )
    get = loaded.thresholds.get
    assert problems == []
    assert (get("slow_trace.duration_ms"), get("slow_trace.duration_ms", "GET /a=b")) == (3000, 20)
    assert (get("n_plus_one.count"), get("slow_db.duration_ms")) == (7, 500)
    assert loaded.limits.nanoseconds == 20_000_000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x", "'x' is not name=number or name@operation=number; it is left out"),
        ("=5", "'=5' is not name=number or name@operation=number; it is left out"),
        ("a.b@=5", "'a.b@=5' is not name=number or name@operation=number; it is left out"),
        ("a.bb=5", "'a.bb' is no threshold (did you mean a.b?); it is left out"),
        ("zzz=5", "'zzz' is no threshold; it is left out"),
        ("a.b=fast", "'fast' is not a number of 0 or more for a.b; its default stays"),
        ("a.b=-1", "'-1' is not a number of 0 or more for a.b; its default stays"),
        ("a.b=nan", "'nan' is not a number of 0 or more for a.b; its default stays"),
        ("a.b=inf", "'inf' is not a number of 0 or more for a.b; its default stays"),
    ],
)
def test_bad_thresholds_are_one_line_each(text: str, problem: str) -> None:
    problems: list[str] = []
    assert parse((text, "a.b=1"), ["a.b"], problems.append) == {"a.b": 1.0}
    assert problems == [problem]


class Entry:
    """An entry point."""

    def __init__(self, name: str, found: Any) -> None:
        self.name = name
        self._found = found

    def load(self) -> Any:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


class Module:
    """A plug-in that is a module."""

    DEFAULTS = {"mine.count": 3}

    @staticmethod
    def may(hints: Any) -> bool:
        return bool(hints.spans >= hints.threshold("mine.count"))

    @staticmethod
    def detect(fragment: Fragment, thresholds: Thresholds) -> list[Insight]:
        return [insight("mine", count=int(thresholds.get("mine.count")))]


def test_plugins() -> None:
    problems: list[str] = []
    loaded = load(
        chosen=("mine.count=2",),
        plugins=[
            Entry("mine", Module),
            Entry("function", lambda fragment: [insight("function")]),
            Entry("missing", ModuleNotFoundError("no acme")),
            Entry("number", 5),
            Entry("slow_db", Module),
            Entry("function", Module),
        ],
        report=problems.append,
    )
    assert [each.NAME for each in loaded.local][len(LOCAL) :] == ["mine", "function"]
    assert loaded.thresholds.get("mine.count") == 2
    assert problems == [
        "the plug-in 'missing' of spanwell_insight_detector cannot be used: ModuleNotFoundError: no acme",
        "the plug-in 'number' of spanwell_insight_detector cannot be used: "
        "TypeError: it is a int, not a function or a module with detect(fragment, ...)",
        "the plug-in 'slow_db' of spanwell_insight_detector has the name of another detector; it is left out",
        "the plug-in 'function' of spanwell_insight_detector has the name of another detector; it is left out",
    ]


def test_users_detectors_are_asked_about_healthy_traces_and_ours_are_not() -> None:
    loaded = load(plugins=[Entry("mine", lambda fragment: [insight("mine")])], report=print)
    watched = Watched(*loaded.local)
    watched.insights._limits = loaded.limits
    users = [each.NAME for each in watched.insights._users]
    watched.tracer.start_span("root").end()
    assert users == ["seen", "mine"]
    assert [one.type for one, _, _ in watched.told] == ["mine"]


# --- log events -----------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_event_for_each_new_fingerprint() -> None:
    emitted: list[str] = []
    events = Events(lambda one, fingerprint, context: emitted.append(fingerprint), Clock())
    for fingerprint in ("a", "b", "a", "b", "c"):
        events(insight(), fingerprint, None)
    assert emitted == ["a", "b", "c"]


def test_log_events_are_limited_and_what_was_left_out_is_told_of_later() -> None:
    emitted: list[str] = []
    clock = Clock()
    events = Events(lambda one, fingerprint, context: emitted.append(fingerprint), clock)
    every = [str(number) for number in range(15)]
    for fingerprint in every:
        events(insight(), fingerprint, None)
    assert emitted == every[: int(BURST)]
    assert events.held_back == 5
    clock.now = 3.0
    for fingerprint in every:
        events(insight(), fingerprint, None)
    assert emitted == every[:13]
    clock.now = -100.0  # a clock that goes backwards
    events(insight(), "14", None)
    assert emitted == every[:13]


def test_fingerprints_remembered_are_bounded() -> None:
    emitted: list[str] = []
    clock = Clock()
    events = Events(lambda one, fingerprint, context: emitted.append(fingerprint), clock)
    for number in range(MOST + 10):
        clock.now += 1
        events(insight(), str(number), None)
    assert len(events._known) == MOST
    assert len(emitted) == MOST + 10
