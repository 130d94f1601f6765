"""Insights of stored traces: from one scope only, and the same problem once."""

from __future__ import annotations

from collections.abc import Iterable

from spanwell.explore.model import Trace
from spanwell.explore.problems import Finding, Judge, Problems, problem_json
from spanwell.insights.model import Fragment, Insight, Thresholds
from spanwell.insights.written import write
from spanwell.record import SpanRecord
from support.spans import START, record


def slow(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
    assert fragment.whole
    assert fragment.root is not None
    if fragment.root.duration > thresholds.get("slow.ms") * 1e6:
        stock = tuple(span.span_id for span in fragment.spans if span.service == "stock")
        yield Insight("slow", "warning", "seen from the whole", (fragment.operation,), stock)


def judge(limit: float = 1.0) -> Judge:
    return Judge({"slow": slow}, Thresholds({"slow.ms": limit}))


def said(kind: str = "slow", *, severity: str = "info", number: int = 1) -> dict:
    return write([(f"{number:016x}", Insight(kind, severity, f"{kind} said so", ()))])


def trace(*spans: SpanRecord) -> Trace:
    return Trace("0" * 31 + "1", spans)


def test_the_whole_decides_and_names_the_services_of_the_evidence() -> None:
    found = judge().findings(
        trace(
            record("a", duration=5_000_000, attributes=said()), record("b", "a", service="stock", attributes=said())
        )
    )
    assert [(each.sentence, each.services) for each in found] == [("seen from the whole", ("stock",))]
    fingerprint = Insight("slow", "", "", ("work",)).fingerprint("shop")
    assert (found[0].fingerprint, found[0].time_ns, found[0].trace_id) == (fingerprint, START, "0" * 31 + "1")


def test_of_a_complete_trace_the_threshold_given_here_counts() -> None:
    assert judge(1000.0).findings(trace(record("a", duration=5_000_000, attributes=said()))) == []


def test_what_the_whole_cannot_judge_comes_from_the_processes() -> None:
    attributes = said("own", severity="error")
    found = judge().findings(
        trace(record("a", duration=5_000_000), record("b", "a", service="stock", attributes=attributes))
    )
    assert [(each.type, each.services, each.sentence) for each in found] == [
        ("slow", ("stock",), "seen from the whole"),
        ("own", ("stock",), "own said so"),
    ]
    assert found[1].severity == "error"


def test_where_parts_are_missing_the_processes_fill_in() -> None:
    orphan = record("b", "gone", service="stock", attributes=said())
    assert [each.sentence for each in judge().findings(trace(orphan))] == ["slow said so"]
    assert [each.sentence for each in judge(1000.0).findings(trace(record("a"), orphan))] == ["slow said so"]
    # Where the whole found one of that type, that is the one.
    whole = trace(record("a", duration=5_000_000), orphan)
    assert [each.sentence for each in judge().findings(whole)] == ["seen from the whole"]


def test_the_same_insight_of_two_processes_is_one() -> None:
    spans = (record("a", "x", attributes=said()), record("b", "y", attributes=said()))
    assert len(judge().findings(trace(*spans))) == 1


def test_a_detector_that_raises_is_switched_off_and_the_processes_are_believed() -> None:
    asked = []

    def broken(fragment: Fragment, thresholds: Thresholds) -> Iterable[Insight]:
        asked.append(fragment)
        raise KeyError("no\nsuch")

    both = Judge({"broken": broken, "slow": slow}, Thresholds({"slow.ms": 1.0}))
    spans = trace(record("a", duration=5_000_000, attributes=said("broken")))
    for _ in range(2):
        assert [each.type for each in both.findings(spans)] == ["slow", "broken"]
    assert len(asked) == 1
    assert both.failed == {"broken": "KeyError: 'no\\nsuch'"}


def test_odd_traces() -> None:
    assert judge().findings(trace()) == []
    assert judge().findings(trace(record("a", "b"), record("b", "a"))) == []  # parents in a circle
    odd = {"spanwell.insights": ["slow", 5], "spanwell.insight.slow.severity": 3}
    assert judge(1000.0).findings(trace(record("a", "gone", attributes=odd))) == []


def finding(
    number: int = 1, *, at: int = 0, severity: str = "info", service: str = "shop", trace: int = 1
) -> Finding:
    return Finding(f"{number:016x}", "slow", severity, f"sentence at {at}", (service,), f"{trace:032x}", START + at)


def test_the_same_problem_is_one_whatever_the_order() -> None:
    problems = Problems()
    for at, trace_number in ((20, 2), (10, 1), (50, 5), (40, 4), (30, 3)):
        problems.add(finding(at=at, trace=trace_number, service="shop" if at > 10 else "stock"))
    problems.add(finding(at=35, severity="error", trace=9))
    (problem,) = problems.list()
    assert (problem.times, problem.first_ns, problem.last_ns) == (6, START + 10, START + 50)
    assert (problem.severity, problem.sentence) == ("error", "sentence at 50")
    assert problem.services == ("shop", "stock")
    assert problem.examples[0] == f"{5:032x}"
    assert len(set(problem.examples)) == len(problem.examples) == 3


def test_the_worst_and_most_frequent_first() -> None:
    problems = Problems()
    for number, severity, times in (
        (1, "info", 9),
        (2, "warning", 1),
        (3, "warning", 2),
        (4, "error", 1),
        (5, "?", 99),
    ):
        for _ in range(times):
            problems.add(finding(number, severity=severity))
    assert [int(problem.fingerprint) for problem in problems.list()] == [4, 3, 2, 1, 5]
    assert problems.list(service="other") == []
    assert problems.list(types={"fast"}) == []
    assert len(problems.list(service="shop", types={"slow"})) == 5


def test_the_json_form() -> None:
    problems = Problems()
    problems.add(finding())
    assert problem_json(problems.list()[0]) == {
        "fingerprint": f"{1:016x}",
        "type": "slow",
        "severity": "info",
        "sentence": "sentence at 0",
        "first_seen_ns": START,
        "last_seen_ns": START,
        "count": 1,
        "services": ["shop"],
        "traces": [f"{1:032x}"],
    }
