"""Small real programs under real instrumentors, whose traces a detector must find, or leave alone.

A program is a generator that takes a `World`, instruments what it uses and runs. Each `yield` ends one example: the
spans that ended since the one before, mostly one trace. It says what the examples are:

    @case("n_plus_one", positive=True, half="tuned")
    def order_lines_one_by_one(world: World) -> Iterator[None]:
        world.instrument(SQLAlchemyInstrumentor(), engine=engine)
        for lines in range(6, 18):
            show_order(lines)
            yield

Time is the world's: every reading takes a microsecond, `world.clock.advance(ms=20)` lets it pass, and so does
`time.sleep`, so that retries that wait need no waiting. Nothing else is replaced.

`tuned` programs stand in corpus/tuned, were there while the detectors were written, and may be looked at when one is
changed. `held_out` programs stand in corpus/held_out: other code, other libraries, against which nothing is tuned.
One that leads to a change of a detector moves to `tuned`.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer

from spanwell.insights.hints import Hints
from spanwell.insights.loading import Loaded, load
from spanwell.insights.model import Fragment, Insight
from spanwell.record import EventRecord, LinkRecord, SpanRecord
from support.ended import healthy

HALVES = ("tuned", "held_out")
START = 1_795_167_973_000_000_000

_real_time_ns = time.time_ns
_real_sleep = time.sleep
_KINDS = ("internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")

Program = Callable[["World"], Iterator[None]]


class Case(NamedTuple):
    """A program, and what its examples are. whole: as a store sees them, the spans of all services at once."""

    detector: str
    positive: bool
    half: str
    program: Program
    whole: bool


_cases: list[Case] = []


def case(detector: str, *, positive: bool, half: str, whole: bool = False) -> Callable[[Program], Program]:
    """Register a program as examples (`positive`) or near misses of `detector`; several labels may stand on one."""
    assert half in HALVES

    def register(program: Program) -> Program:
        assert program.__module__.startswith(f"corpus.{half}."), f"{program.__name__} stands in the wrong half"
        _cases.append(Case(detector, positive, half, program, whole))
        return program

    return register


def cases() -> list[Case]:
    """Every program of corpus/tuned and corpus/held_out."""
    for half in HALVES:
        for found in pkgutil.iter_modules([str(Path(__file__).parent / half)]):
            importlib.import_module(f"corpus.{half}.{found.name}")
    return _cases


class Clock:
    """Nanoseconds that pass when told to, and a microsecond at every reading."""

    def __init__(self) -> None:
        self._now = START
        self._lock = threading.Lock()

    def time_ns(self) -> int:
        """The time, which is later at every call."""
        with self._lock:
            self._now += 1_000
            return self._now

    def advance(self, *, ms: float) -> None:
        """Let `ms` milliseconds pass, for everybody."""
        with self._lock:
            self._now += int(ms * 1_000_000)

    def sleep(self, seconds: float) -> None:
        """What `time.sleep` is while a program runs."""
        self.advance(ms=seconds * 1_000)
        _real_sleep(0)


class World:
    """What a program runs in: clock, providers, and instrumentors that are taken off again."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._exporter = InMemorySpanExporter()
        self._providers: dict[str, TracerProvider] = {}
        self._patched: list[Any] = []
        self._exit = contextlib.ExitStack()

    def provider(self, service: str = "shop") -> TracerProvider:
        """The provider of `service`; their spans come to the same place."""
        if service not in self._providers:
            provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource({"service.name": service}))
            provider.add_span_processor(SimpleSpanProcessor(self._exporter))
            self._providers[service] = provider
        return self._providers[service]

    def tracer(self, service: str = "shop") -> Tracer:
        """A tracer of `service`."""
        return self.provider(service).get_tracer("corpus")

    def instrument(self, instrumentor: Any, *, service: str = "shop", **options: Any) -> None:
        """Put an instrumentor on until the program has ended."""
        instrumentor.instrument(tracer_provider=self.provider(service), **options)
        self._exit.callback(instrumentor.uninstrument)
        self._take_clocks()

    def enter(self, manager: contextlib.AbstractContextManager[Any]) -> Any:
        """Enter a context manager, e.g. a server, until the program has ended."""
        return self._exit.enter_context(manager)

    def at_end(self, work: Callable[[], object]) -> None:
        """Call `work` when the program has ended, the latest first."""
        self._exit.callback(work)

    def take(self) -> list[ReadableSpan]:
        """The spans that ended since the last call, in the order of their end."""
        spans = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return spans

    def _take_clocks(self) -> None:
        # The SDK and a few instrumentors have imported the function; `time.time_ns` itself stays for everybody else.
        for name, module in list(sys.modules.items()):
            if name.startswith("opentelemetry.") and module.__dict__.get("time_ns") is _real_time_ns:
                module.__dict__["time_ns"] = self.clock.time_ns
                self._patched.append(module)

    def __enter__(self) -> World:
        self._take_clocks()
        time.sleep = self.clock.sleep
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()
        time.sleep = _real_sleep
        for module in self._patched:
            module.__dict__["time_ns"] = _real_time_ns


def record(span: ReadableSpan) -> SpanRecord:
    """An ended span as the detectors see it."""
    context, parent, scope = span.context, span.parent, span.instrumentation_scope
    assert context is not None
    start, end = span.start_time or 0, span.end_time or 0
    remote = (0x300 if parent.is_remote else 0x100) if parent is not None else 0
    return SpanRecord(
        f"{context.trace_id:032x}",
        f"{context.span_id:016x}",
        None if parent is None else f"{parent.span_id:016x}",
        span.name,
        _KINDS[span.kind.value],
        str(span.resource.attributes.get("service.name", "")),
        start,
        end,
        _STATUSES[span.status.status_code.value],
        span.status.description or "",
        dict(span.attributes or {}),
        tuple(EventRecord(event.name, event.timestamp, dict(event.attributes or {})) for event in span.events),
        tuple(
            LinkRecord(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}", dict(link.attributes or {}))
            for link in span.links
        ),
        dict(span.resource.attributes),
        scope.name if scope else "",
        (scope.version or "") if scope else "",
        "",
        int(context.trace_flags) | remote,
    )


def fragments(spans: Iterable[SpanRecord], *, whole: bool = False) -> list[Fragment]:
    """The fragments of one example: one a trace (`whole`), else one a local root, in the order of their end."""
    held: dict[str, list[SpanRecord]] = {}
    made: list[Fragment] = []
    for span in spans:
        if whole:
            held.setdefault(span.trace_id, []).append(span)
            continue
        # Children end before their local root here, so what it has below it is complete when it ends.
        below = held.setdefault(span.trace_id, [])
        below.append(span)
        if span.parent_id is None or span.flags & 0x200:
            own = _below(span, below)
            made.append(Fragment(own, span))
            ids = {each.span_id for each in own}
            held[span.trace_id] = [each for each in below if each.span_id not in ids]
    for rest in held.values():
        if rest:
            root = next((span for span in rest if span.parent_id is None), None)
            made.append(Fragment(rest, root, whole=whole))
    return made


def _below(root: SpanRecord, spans: list[SpanRecord]) -> list[SpanRecord]:
    inside = {root.span_id}
    for span in reversed(spans):
        if span.parent_id in inside and not span.flags & 0x200:
            inside.add(span.span_id)
    return [span for span in spans if span.span_id in inside]


def examples(made: Case) -> list[list[Fragment]]:
    """Run a program: the fragments of each of its examples."""
    found: list[list[Fragment]] = []
    with World() as world:
        for _ in made.program(world):
            spans = world.take()
            assert spans, f"{made.program.__name__} yielded without spans"
            found.append(fragments(map(record, spans), whole=made.whole))
        rest = world.take()
    assert not rest, f"{made.program.__name__} left {len(rest)} spans behind its last yield"
    return found


Judge = Callable[[list[Fragment]], list[Insight]]


@cache
def _loaded() -> Loaded:
    def report(problem: str) -> None:
        raise AssertionError(problem)

    return load(report=report)


def judge(detector: str) -> Judge:
    """What `detector` finds in one example, with the default thresholds.

    Of local fragments only those count for which the gates open that keep detectors from looking at healthy traces.
    """
    if detector in JUDGES:
        return JUDGES[detector]
    module = importlib.import_module(f"spanwell.insights.detectors.{detector}")
    loaded = _loaded()

    def find(example: list[Fragment]) -> list[Insight]:
        found: list[Insight] = []
        for fragment in example:
            if not fragment.whole:
                hints = Hints.of(fragment.spans, fragment.root, loaded.thresholds)
                root_attributes = fragment.root.attributes if fragment.root is not None else {}
                if healthy(fragment.spans, loaded.limits, root_attributes) or not module.may(hints):
                    continue
            found += module.detect(fragment, loaded.thresholds)
        return found

    return find


JUDGES: dict[str, Judge] = {}
"""Detectors that are more than a function of one fragment: name -> what they find in an example."""


class Score(NamedTuple):
    """How well a detector does on one half. wrong: the programs and numbers of the examples it got wrong."""

    positives: int
    near_misses: int
    found: int
    false: int
    wrong: tuple[str, ...]

    @property
    def precision(self) -> float:
        """Of what it found, how much is there."""
        return self.found / (self.found + self.false) if self.found + self.false else 0.0

    @property
    def recall(self) -> float:
        """Of what is there, how much it found."""
        return self.found / self.positives if self.positives else 0.0


@cache
def score(detector: str, half: str) -> Score:
    """Run every program labelled for `detector` in `half`."""
    find = judge(detector)
    positives = near_misses = found = false = 0
    wrong: list[str] = []
    for made in cases():
        if (made.detector, made.half) != (detector, half):
            continue
        for number, example in enumerate(examples(made)):
            insights = find(example)
            assert all(insight.type == detector for insight in insights)
            positives += made.positive
            near_misses += not made.positive
            found += made.positive and bool(insights)
            false += not made.positive and bool(insights)
            if made.positive is not bool(insights):
                said = "; ".join(insight.sentence for insight in insights)
                wrong.append(
                    f"{made.program.__module__}.{made.program.__name__} #{number}: {said or 'nothing found'}"
                )
    return Score(positives, near_misses, found, false, tuple(wrong))
