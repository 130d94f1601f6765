"""The X-Ray propagator against real SDK pieces, every way a carrier can look."""

from __future__ import annotations

import contextvars
import logging
from itertools import permutations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.instrumentation.asgi import asgi_getter
from opentelemetry.instrumentation.wsgi import wsgi_getter
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, default_getter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from spanwell import _guard, incoming
from spanwell.enrich.links import OtherParentLink
from spanwell.enrich.processor import FusedProcessor
from spanwell.ids import XRayIdGenerator
from spanwell.incoming import take_root
from spanwell.propagation.xray import XRayPropagator
from spanwell.sampling.undecided import UndecidedSampler

TRACE = 0x5759E988BD862E3FE1BE46A994272793
XRAY_PARENT, W3C_PARENT = 0x53995C3F42CD8AD8, 0x00F067AA0BA902B7
R = "Root=1-5759e988-bd862e3fe1be46a994272793"
P = "Parent=53995c3f42cd8ad8"
SAME = "00-5759e988bd862e3fe1be46a994272793-00f067aa0ba902b7-01"
OTHER_TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
W3C = TraceContextTextMapPropagator


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.setattr(_guard, "strict", True)
    before = get_global_textmap()
    incoming.forget_root()
    yield
    incoming.forget_root()
    set_global_textmap(before)


def provider(sampler: Sampler = DEFAULT_ON, **kwargs) -> tuple[TracerProvider, InMemorySpanExporter]:
    made = TracerProvider(sampler=sampler, shutdown_on_exit=False, **{"id_generator": XRayIdGenerator(), **kwargs})
    exporter = InMemorySpanExporter()
    made.add_span_processor(FusedProcessor([OtherParentLink()]))
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made, exporter


def spans(carrier, sampler: Sampler = DEFAULT_ON, propagator=None):
    """Enter a request as an instrumentor does; the root span and its child, and what was exported."""
    made, exporter = provider(sampler)
    context = (propagator or XRayPropagator()).extract(carrier)
    tracer = made.get_tracer("t")
    root = tracer.start_span("root", context=context)
    child = tracer.start_span("child", context=set_span_in_context(root, context))
    child.end()
    root.end()
    return root.get_span_context(), child.get_span_context(), exporter.get_finished_spans()


def parent(context: Context) -> SpanContext:
    return get_current_span(context).get_span_context()


def asgi(headers):
    return {"type": "http", "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()]}


def wsgi(headers):
    return {"HTTP_" + k.upper().replace("-", "_"): v for k, v in headers.items()}


class Pairs(Getter):
    """A case-sensitive getter over pairs with bytes, as message brokers have."""

    def get(self, carrier, key):
        return [value for name, value in carrier if name == key]

    def keys(self, carrier):
        return [name for name, _ in carrier]


TEXT = f"{R};{P};Sampled=1"


@pytest.mark.parametrize(
    ("carrier", "getter"),
    [
        ({"X-Amzn-Trace-Id": TEXT}, default_getter),
        ({"x-amzn-trace-id": TEXT}, default_getter),
        ({"X-AMZN-TRACE-ID": TEXT}, default_getter),
        ({"X-Amzn-Trace-ID": [TEXT]}, default_getter),
        ({"X-Amzn-Trace-Id": (TEXT, "x")}, default_getter),
        ({"x-amzn-trace-id": TEXT.encode()}, Pairs()),
        (wsgi({"X-Amzn-Trace-Id": TEXT}), wsgi_getter),
        (asgi({"X-Amzn-Trace-Id": TEXT}), asgi_getter),
    ],
)
def test_the_header_is_found_in_any_case_with_any_getter(carrier, getter):
    if isinstance(getter, Pairs):
        carrier = list(carrier.items())
    found = parent(XRayPropagator().extract(carrier, getter=getter))
    assert found == SpanContext(TRACE, XRAY_PARENT, True, TraceFlags(1))


class Broken(Getter):
    def __init__(self, answer):
        self.answer = answer

    def get(self, carrier, key):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def keys(self, carrier):
        return self.answer


@pytest.mark.parametrize(
    "answer", [KeyError("x"), None, [], [None], "", b"", b"\xff", [b"\xff"], 3, object(), [[]], {}, [3]]
)
def test_a_getter_that_gives_nonsense_gives_no_context(answer, caplog):
    context = Context({"a": 1})
    with caplog.at_level(logging.CRITICAL, "spanwell"):
        assert XRayPropagator().extract({}, context, Broken(answer)) is context
    assert context == {"a": 1}


@pytest.mark.parametrize("carrier", [None, 3, [], "text", object()])
def test_a_carrier_that_is_none_gives_no_context(carrier):
    assert XRayPropagator().extract(carrier) == {}
    XRayPropagator().inject(carrier, set_span_in_context(NonRecordingSpan(SpanContext(1, 2, False))))


carriers = st.dictionaries(
    st.sampled_from(["X-Amzn-Trace-Id", "x-amzn-trace-id", "X-AMZN-TRACE-ID", "traceparent", "tracestate", ""]),
    st.one_of(
        st.text(),
        st.binary(),
        st.lists(st.text(), max_size=2),
        st.sampled_from([TEXT, R, SAME, OTHER, f"{R};Sampled=?", f"{R};{P}"]),
    ),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(carriers, st.booleans())
def test_no_carrier_raises_or_changes_and_the_given_context_is_left_alone(carrier, prefer):
    copy, context = dict(carrier), Context({"a": 1})
    result = XRayPropagator(prefer_xray=prefer).extract(carrier, context)
    assert result["a"] == 1
    assert carrier == copy
    assert context == {"a": 1}
    out: dict[str, str] = {}
    XRayPropagator().inject(out, result)
    assert set(out) <= XRayPropagator().fields
    assert all(value.isascii() and value.isprintable() for value in out.values())


@settings(deadline=None)
@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_span_survives_the_round_trip(trace_id, span_id, sampled):
    span = SpanContext(trace_id, span_id, False, TraceFlags(sampled))
    carrier: dict[str, str] = {}
    XRayPropagator().inject(carrier, set_span_in_context(NonRecordingSpan(span)))
    found = parent(XRayPropagator().extract(carrier))
    assert found == SpanContext(trace_id, span_id, True, TraceFlags(sampled))


def test_nothing_is_injected_without_a_span():
    carrier: dict[str, str] = {}
    XRayPropagator().inject(carrier, Context())
    assert carrier == {}


@pytest.mark.parametrize(
    "text",
    [
        f"{R};{P};Sampled=1",
        f"{R};{P};Sampled=0",
        f"{R};{P};Sampled=?",
        f"{R};{P}",
        f"{R};{P};Sampled=?;Lineage=25:a87bd80c:1",
        R,
        f"{R};Sampled=?;Lineage=25:a87bd80c:1",
        f"{R};Sampled=0",
    ],
)
def test_a_header_nobody_acted_on_is_passed_on(text):
    carrier: dict[str, str] = {}
    XRayPropagator().inject(carrier, XRayPropagator().extract({"X-Amzn-Trace-Id": text}))
    assert carrier == {"X-Amzn-Trace-Id": text}


def test_lineage_is_sent_on_from_inside_the_span():
    text = f"{R};{P};Sampled=?;Lineage=25:a87bd80c:1"
    context = XRayPropagator().extract({"X-Amzn-Trace-Id": text})
    span = provider(UndecidedSampler(DEFAULT_ON))[0].get_tracer("t").start_span("s", context)
    carrier: dict[str, str] = {}
    XRayPropagator().inject(carrier, set_span_in_context(span, context))
    own = f"{span.get_span_context().span_id:016x}"
    assert carrier["X-Amzn-Trace-Id"] == f"{R};Parent={own};Sampled=1;Lineage=25:a87bd80c:1"


def test_an_extraction_without_a_header_removes_what_an_earlier_one_left():
    first = XRayPropagator().extract({"X-Amzn-Trace-Id": f"{R};Sampled=?;Lineage=a:1"})
    second = XRayPropagator().extract({}, first)
    assert incoming.of(second) is None
    assert take_root(lambda: 0.0) == 0
    third = XRayPropagator().extract({"X-Amzn-Trace-Id": TEXT}, first)
    assert incoming.of(third) is None


# --- Root only, and undecided ------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("text", [R, f"{R};Sampled=?", f"Self=1-0000-00;{R};"])
def test_the_root_of_a_load_balancer_becomes_the_trace_id(text, wrapped):
    sampler = UndecidedSampler(DEFAULT_ON) if wrapped else DEFAULT_ON
    root, child, exported = spans({"X-Amzn-Trace-Id": text}, sampler)
    assert root.trace_id == child.trace_id == TRACE
    assert root.trace_flags == 3
    assert [span.name for span in exported] == ["child", "root"]
    assert exported[1].parent is None
    # The next root is another trace.
    assert provider()[0].get_tracer("t").start_span("next").get_span_context().trace_id != TRACE


@pytest.mark.parametrize(("rate", "sampled"), [(0.0, 0), (1.0, 1), (0.5, 0), (0.95, 1)])
@pytest.mark.parametrize("text", [R, f"{R};{P}", f"{R};{P};Sampled=?"])
def test_the_ratio_of_roots_decides_what_is_undecided(text, rate, sampled):
    # The low 64 bits of TRACE are at 0.8818 of their range.
    root, child, exported = spans({"X-Amzn-Trace-Id": text}, UndecidedSampler(ParentBasedTraceIdRatio(rate)))
    assert root.trace_id == TRACE
    assert root.trace_flags.sampled == child.trace_flags.sampled == bool(sampled)
    assert len(exported) == 2 * sampled


@pytest.mark.parametrize("text", [f"{R};{P}", f"{R};{P};Sampled=?"])
@pytest.mark.parametrize(
    ("sampler", "sampled"),
    [
        (DEFAULT_ON, True),
        (DEFAULT_OFF, False),
        (ALWAYS_OFF, False),
        (ParentBased(TraceIdRatioBased(0.0)), False),
        # Proves that it is the root's branch, not the one of a sampled parent.
        (ParentBased(ALWAYS_OFF, remote_parent_sampled=TraceIdRatioBased(1.0)), False),
    ],
)
def test_an_undecided_parent_gets_the_root_decision(text, sampler, sampled):
    root, child, exported = spans({"X-Amzn-Trace-Id": text}, UndecidedSampler(sampler))
    assert root.trace_id == TRACE
    assert root.trace_flags.sampled == child.trace_flags.sampled == sampled
    if sampled:
        assert exported[1].parent.span_id == XRAY_PARENT


def test_the_stock_sampler_keeps_an_undecided_trace():
    root, _, exported = spans({"X-Amzn-Trace-Id": f"{R};{P};Sampled=?"})
    assert root.trace_id == TRACE
    assert exported[1].parent.span_id == XRAY_PARENT


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("sampler", [DEFAULT_ON, DEFAULT_OFF, ParentBasedTraceIdRatio(0.5)])
@pytest.mark.parametrize("fields", [[R], [R, P], [R, P, "Lineage=a:1"]])
def test_a_decision_that_was_made_is_respected(flag, sampler, fields):
    text = ";".join([*fields, f"Sampled={flag}"])
    root, child, exported = spans({"X-Amzn-Trace-Id": text}, UndecidedSampler(sampler))
    assert root.trace_id == child.trace_id == TRACE
    assert root.trace_flags.sampled == bool(flag)
    assert len(exported) == 2 * flag
    if exported and fields == [R]:
        assert exported[1].parent is None


def test_a_root_that_a_disabled_tracer_left_goes_stale():
    clock = [100.0]
    made, _ = provider(id_generator=XRayIdGenerator(monotonic=lambda: clock[0]))
    XRayPropagator(monotonic=lambda: clock[0]).extract({"X-Amzn-Trace-Id": R})
    clock[0] += 6
    assert made.get_tracer("t").start_span("s").get_span_context().trace_id != TRACE


def test_one_request_does_not_give_its_root_to_the_next():
    XRayPropagator().extract({"X-Amzn-Trace-Id": R})
    assert spans({})[0].trace_id != TRACE


def test_a_root_that_nobody_took_is_forgotten_when_a_parent_comes():
    XRayPropagator().extract({"X-Amzn-Trace-Id": R})
    XRayPropagator().extract({"X-Amzn-Trace-Id": TEXT})
    assert take_root(lambda: 0.0) == 0


def test_the_decision_on_a_root_is_not_one_on_other_traces():
    context = XRayPropagator().extract({"X-Amzn-Trace-Id": f"{R};Sampled=0"})
    tracer = provider(UndecidedSampler(DEFAULT_ON))[0].get_tracer("t")
    first, second = (tracer.start_span("s", context).get_span_context() for _ in range(2))
    assert (first.trace_id == TRACE, first.trace_flags.sampled) == (True, False)
    assert (second.trace_id == TRACE, second.trace_flags.sampled) == (False, True)


def test_a_local_span_in_the_context_keeps_its_trace_and_no_root_waits():
    local = provider()[0].get_tracer("t").start_span("s")
    context = set_span_in_context(local, Context())
    result = XRayPropagator().extract({"X-Amzn-Trace-Id": R}, context)
    assert parent(result) == local.get_span_context()
    assert take_root(lambda: 0.0) == 0
    result = XRayPropagator().extract({"X-Amzn-Trace-Id": TEXT}, context)
    assert parent(result).span_id == XRAY_PARENT


# --- both headers ---------------------------------------------------------------------------------------------


def composite(order, **kwargs):
    kinds = {"w3c": W3C(), "xray": XRayPropagator(**kwargs), "baggage": W3CBaggagePropagator()}
    made = CompositePropagator([kinds[name] for name in order])
    set_global_textmap(made)
    return made


AFTER, BEFORE = ("baggage", "w3c", "xray"), ("baggage", "xray", "w3c")
BOTH_ORDERS = pytest.mark.parametrize("order", [AFTER, BEFORE])
PREFERENCES = pytest.mark.parametrize("prefer", [False, True])


@BOTH_ORDERS
@PREFERENCES
@pytest.mark.parametrize("rest", [f"{P};Sampled=1", f"{P};Sampled=0", f"{P};Sampled=?", P])
@pytest.mark.parametrize("getter", ["dict", "wsgi", "asgi"])
def test_two_traces_w3c_wins_and_the_span_links_to_the_other(order, prefer, rest, getter):
    headers = {"X-Amzn-Trace-Id": f"{R};{rest}", "traceparent": OTHER, "tracestate": "a=b"}
    carrier = {"dict": dict, "wsgi": wsgi, "asgi": asgi}[getter](headers)
    get = {"dict": default_getter, "wsgi": wsgi_getter, "asgi": asgi_getter}[getter]
    made, exporter = provider(UndecidedSampler(DEFAULT_ON))
    context = composite(order, prefer_xray=prefer).extract(carrier, getter=get)
    tracer = made.get_tracer("t")
    token = attach(context)
    with tracer.start_as_current_span("root"), tracer.start_as_current_span("child"):
        pass
    detach(token)
    child, root = exporter.get_finished_spans()
    assert (root.context.trace_id, root.parent.span_id) == (OTHER_TRACE, W3C_PARENT)
    assert root.context.trace_state.to_header() == "a=b"
    assert [(link.context.trace_id, link.context.span_id) for link in root.links] == [(TRACE, XRAY_PARENT)]
    assert child.links == ()


@BOTH_ORDERS
@PREFERENCES
@pytest.mark.parametrize("api_gateway", [False, True])
@pytest.mark.parametrize("xray", [("1", 1), ("0", 0), ("?", 1), ("", 1)])
def test_one_trace_two_parents(order, prefer, api_gateway, xray):
    sampled, flag = xray
    carrier = {"X-Amzn-Trace-Id": f"{R};{P}" + (f";Sampled={sampled}" if sampled else "")}
    carrier |= {"traceparent": SAME[:-2] + "03", "tracestate": "a=b"}
    if api_gateway:
        carrier["X-Amzn-ApiGateway-Api-Id"] = "abc"
    context = composite(order, prefer_xray=prefer).extract(carrier)
    found = parent(context)
    wins = (prefer or api_gateway) and order == AFTER  # before `tracecontext` it cannot win: documented
    assert found.trace_id == TRACE
    assert found.span_id == (XRAY_PARENT if wins else W3C_PARENT)
    assert found.trace_state.to_header() == "a=b"
    assert found.trace_flags == (2 | flag if wins else 3)
    # W3C has decided where X-Ray has not: the sampler must not take it for undecided.
    made, exporter = provider(UndecidedSampler(DEFAULT_OFF))
    made.get_tracer("t").start_span("s", context).end()
    exported = exporter.get_finished_spans()
    assert len(exported) == (flag if wins else 1)
    assert all(span.links == () for span in exported)


@BOTH_ORDERS
@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("rest", [P, f"{P};Sampled=?"])
def test_one_parent_in_both_headers_has_the_decision_of_w3c(order, flag, rest):
    carrier = {"X-Amzn-Trace-Id": f"{R};{rest}"}
    carrier["traceparent"] = f"00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-0{flag}"
    sampler = DEFAULT_OFF if flag else DEFAULT_ON
    root, _, _ = spans(carrier, UndecidedSampler(sampler), composite(order))
    assert (root.trace_id, root.trace_flags) == (TRACE, flag)


@BOTH_ORDERS
@pytest.mark.parametrize("text", [R, f"{R};Sampled=?", f"{R};Sampled=0"])
@pytest.mark.parametrize("w3c", [SAME, OTHER])
def test_a_root_beside_a_w3c_parent_leaves_that_parent_and_no_root_waiting(order, text, w3c):
    carrier = {"X-Amzn-Trace-Id": text, "traceparent": w3c}
    root, _, exported = spans(carrier, UndecidedSampler(DEFAULT_ON), composite(order))
    assert root.trace_id == int(w3c[3:35], 16)
    assert exported[1].parent.span_id == W3C_PARENT
    assert exported[1].links == ()
    assert take_root(lambda: 0.0) == 0


@pytest.mark.parametrize("order", list(permutations(("baggage", "w3c", "xray"))))
@pytest.mark.parametrize("w3c", ["garbage", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", SAME + "-x"])
def test_an_invalid_traceparent_changes_nothing(order, w3c):
    carrier = {"X-Amzn-Trace-Id": R, "traceparent": w3c}
    assert spans(carrier, propagator=composite(order))[0].trace_id == TRACE
    carrier = {"X-Amzn-Trace-Id": TEXT, "traceparent": w3c}
    assert parent(composite(order).extract(carrier)).span_id == XRAY_PARENT


@BOTH_ORDERS
def test_an_invalid_x_ray_header_leaves_the_w3c_parent(order):
    carrier = {"X-Amzn-Trace-Id": "Root=nonsense", "traceparent": SAME}
    assert parent(composite(order).extract(carrier)).span_id == W3C_PARENT


def test_alone_the_propagator_ignores_a_traceparent():
    set_global_textmap(XRayPropagator())
    assert spans({"X-Amzn-Trace-Id": R, "traceparent": OTHER})[0].trace_id == TRACE
    root, _, exported = spans({"X-Amzn-Trace-Id": TEXT, "traceparent": OTHER})
    assert root.trace_id == TRACE
    assert exported[1].links == ()


def test_twice_in_the_list_is_as_good_as_once():
    twice = CompositePropagator([XRayPropagator(), XRayPropagator()])
    carrier = {"X-Amzn-Trace-Id": f"{R};{P};Sampled=?;Lineage=a:1"}
    root, _, _ = spans(carrier, UndecidedSampler(DEFAULT_OFF), twice)
    assert (root.trace_id, root.trace_flags.sampled) == (TRACE, False)
    assert spans({"X-Amzn-Trace-Id": R}, propagator=twice)[0].trace_id == TRACE


def test_a_new_root_inside_the_request_gets_no_link():
    carrier = {"X-Amzn-Trace-Id": TEXT, "traceparent": OTHER}
    context = composite(AFTER).extract(carrier)
    made, exporter = provider()
    detached = set_span_in_context(NonRecordingSpan(SpanContext(0, 0, False)), context)
    made.get_tracer("t").start_span("s", detached).end()
    (span,) = exporter.get_finished_spans()
    assert span.parent is None
    assert span.links == ()


# --- the sampler's wrapper ---------------------------------------------------------------------------------------


def test_the_wrapper_describes_the_inner_sampler():
    assert UndecidedSampler(DEFAULT_ON).get_description() == DEFAULT_ON.get_description()


def test_the_wrapper_keeps_a_tracestate_and_attributes():
    state = TraceState([("a", "b")])
    undecided = SpanContext(TRACE, XRAY_PARENT, True, TraceFlags(1), state)
    context = set_span_in_context(NonRecordingSpan(undecided), Context())
    context = incoming.put(context, incoming.Incoming(TRACE, undecided=undecided))
    result = UndecidedSampler(DEFAULT_ON).should_sample(context, TRACE, "s", attributes={"k": 1})
    assert result.trace_state == state
    assert result.attributes == {"k": 1}
    assert UndecidedSampler(DEFAULT_OFF).should_sample(context, TRACE, "s").trace_state == state


def test_the_wrapper_reads_the_current_context_when_none_is_given():
    def run():
        attach(XRayPropagator().extract({"X-Amzn-Trace-Id": f"{R};{P}"}))
        return provider(UndecidedSampler(DEFAULT_OFF))[0].get_tracer("t").start_span("s")

    span = contextvars.copy_context().run(run).get_span_context()
    assert (span.trace_id, span.trace_flags.sampled) == (TRACE, False)
