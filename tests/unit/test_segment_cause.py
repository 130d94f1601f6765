"""Python's tracebacks as X-Ray's exceptions: chains, groups, recursion, what is no traceback."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import pytest
from opentelemetry.sdk.trace import Event
from opentelemetry.trace import SpanKind

from spanwell.export.segment_cause import MAX_EXCEPTIONS, MAX_FRAMES, cause
from support import segment_schema


def recorded(error: BaseException) -> Event:
    """As the SDK records an exception."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return event(type(error).__qualname__, str(error), text)


def event(kind: str = "", message: str = "", trace: str = "") -> Event:
    return Event(
        "exception",
        {"exception.type": kind, "exception.message": message, "exception.stacktrace": trace},
        timestamp=1,
    )


def exceptions(*events: Event, kind: SpanKind = SpanKind.INTERNAL) -> list[dict[str, Any]]:
    found, _ = cause(kind, 0xAB, events, "error", "", {})
    segment_schema.cause("", found)
    assert found is not None
    listed: list[dict[str, Any]] = found["exceptions"]
    return listed


def broken(message: str = "inner") -> None:
    raise ValueError(message)


def caught(work: Any) -> BaseException:
    try:
        work()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_one_exception() -> None:
    (found,) = exceptions(recorded(caught(broken)))
    assert (found["type"], found["message"], found["remote"]) == ("ValueError", "inner", False)
    first, second = found["stack"]
    assert (first["label"], second["label"]) == ("broken", "caught")
    assert first["path"] == __file__
    assert first["line"] == broken.__code__.co_firstlineno + 1
    assert "truncated" not in found


def test_a_chain_of_causes() -> None:
    def from_it() -> None:
        try:
            broken("a\nb: c")
        except ValueError as error:
            raise RuntimeError("outer") from error

    def on_the_way() -> None:
        try:
            from_it()
        except RuntimeError:
            raise KeyError("last")  # noqa: B904

    found = exceptions(recorded(caught(on_the_way)))
    assert [(each["type"], each["message"]) for each in found] == [
        ("KeyError", "'last'"),
        ("RuntimeError", "outer"),
        ("ValueError", "a\nb: c"),
    ]
    assert [each.get("cause") for each in found] == [found[1]["id"], found[2]["id"], None]
    assert [each["stack"][0]["label"] for each in found] == ["on_the_way", "from_it", "broken"]


def test_two_events_are_no_chain() -> None:
    found = exceptions(recorded(caught(broken)), recorded(caught(lambda: broken("other"))))
    assert [each["message"] for each in found] == ["inner", "other"]
    assert not any("cause" in each for each in found)


def test_deep_recursion_is_counted() -> None:
    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        broken()

    (found,) = exceptions(recorded(caught(lambda: deeper(300))))
    # The lambda, `caught`, 301 times `deeper`, `broken`; Python prints three of equal lines.
    assert len(found["stack"]) + found.get("truncated", 0) == 304
    assert found["stack"][0]["label"] == "broken"


def test_many_different_frames_are_cut() -> None:
    lines = "".join(f'  File "f{number}.py", line {number}, in g{number}\n    call()\n' for number in range(1, 101))
    (found,) = exceptions(event("E", "m", f"Traceback (most recent call last):\n{lines}E: m\n"))
    assert len(found["stack"]) == MAX_FRAMES
    assert found["truncated"] == 100 - MAX_FRAMES
    assert found["stack"][0] == {"path": "f100.py", "line": 100, "label": "g100"}


def test_a_message_that_looks_like_a_traceback() -> None:
    fake = 'no\n  File "fake.py", line 1, in fake\n    code\n'
    (found,) = exceptions(recorded(caught(lambda: broken(fake))))
    assert "fake" not in [each["label"] for each in found["stack"]]
    assert found["message"] == fake


def test_a_syntax_error() -> None:
    (found,) = exceptions(recorded(caught(lambda: compile("a b", "odd, name.py", "exec"))))
    assert found["type"] == "SyntaxError"
    assert {"path": "odd, name.py", "line": 1} in found["stack"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with 3.11")
def test_a_group_shows_its_own_frames() -> None:
    def group() -> None:
        raise ExceptionGroup("two", [caught(broken), caught(broken)])  # type: ignore[name-defined,unused-ignore]  # noqa: F821

    (found,) = exceptions(recorded(caught(group)))
    assert found["type"] == "ExceptionGroup"
    assert [each["label"] for each in found["stack"]] == ["group", "caught"]


@pytest.mark.parametrize("trace", ["", "no traceback at all", "Traceback (most recent call last):", "\n\n"])
def test_what_is_no_traceback(trace: str) -> None:
    (found,) = exceptions(event("E", "m", trace), kind=SpanKind.CLIENT)
    assert (found["type"], found["message"], found["remote"]) == ("E", "m", True)
    assert "stack" not in found


def test_many_exceptions() -> None:
    assert len(exceptions(*[recorded(caught(broken))] * 20)) == MAX_EXCEPTIONS


@pytest.mark.parametrize(
    ("status", "description", "expected"),
    [("error", "no luck", [("no luck", "timeout")]), ("error", "", None), ("ok", "", None), ("unset", "", None)],
)
def test_without_an_event_the_status_tells(status: str, description: str, expected: Any) -> None:
    found, _ = cause(SpanKind.INTERNAL, 7, [], status, description, {"error.type": "timeout"})
    told = None if found is None else [(each["message"], each["type"]) for each in found["exceptions"]]
    assert told == expected


def test_ids_are_the_same_each_time() -> None:
    first, again = exceptions(recorded(caught(broken))), exceptions(recorded(caught(broken)))
    assert [each["id"] for each in first] == [each["id"] for each in again]
