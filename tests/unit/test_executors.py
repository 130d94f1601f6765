"""The context in thread pools, and how functions travel to process pools."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import Pool, ThreadPool
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_current_span

from spanwell.propagation import executors
from spanwell.propagation.executors import Carried, carried, here

TRACER = TracerProvider(shutdown_on_exit=False).get_tracer("tests")


@pytest.fixture(autouse=True)
def _followed() -> Iterator[None]:
    executors.follow_threads()
    executors.follow_pools()
    executors.follow_processes()
    yield
    executors.unfollow()


def current(*_: Any) -> int:
    return get_current_span().get_span_context().span_id


def remote(*_: Any) -> tuple[int, bool]:
    context = get_current_span().get_span_context()
    return context.span_id, context.is_remote


def fail() -> None:
    raise LookupError("the application's")


def test_a_thread_pool_runs_in_the_context_of_submit() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(current).result() == 0
        with TRACER.start_as_current_span("s") as span:
            span_id = span.get_span_context().span_id
            assert pool.submit(current).result() == span_id
            assert list(pool.map(current, [1, 2])) == [span_id] * 2
            error = pool.submit(fail).exception()
        assert isinstance(error, LookupError)
        assert pool.submit(current).result() == 0  # nothing stays behind in the worker thread


def test_multiprocessings_thread_pool_too() -> None:
    with ThreadPool(1) as pool, TRACER.start_as_current_span("s") as span:
        span_id = span.get_span_context().span_id
        assert pool.apply(current) == span_id
        assert pool.map(current, [1, 2]) == [span_id] * 2
        assert pool.starmap(current, [(1, 2)]) == [span_id]
        assert list(pool.imap(current, [1])) == [span_id]
        assert list(pool.imap_unordered(func=current, iterable=[1])) == [span_id]
        assert pool.map_async(current, [1]).get(5) == [span_id]


def test_a_wrong_call_fails_as_it_would_have() -> None:
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(TypeError, match="submit"):
            pool.submit()  # type: ignore[call-arg]
        with TRACER.start_as_current_span("s"), pytest.raises(TypeError):
            pool.submit(None).result()  # type: ignore[arg-type]


def test_without_a_context_functions_travel_as_they_are() -> None:
    assert carried(current) is current
    assert here(current) is current


def test_a_carried_function_survives_pickling_with_its_context() -> None:
    with TRACER.start_as_current_span("s") as span:
        wrapped = carried(remote)
        assert carried(wrapped) is wrapped
    there = pickle.loads(pickle.dumps(wrapped))
    assert isinstance(there, Carried)
    assert there.function is remote
    assert there() == (span.get_span_context().span_id, True)
    assert remote() == (0, False)


def test_what_cannot_be_pickled_still_cannot() -> None:
    def local() -> None: ...

    def told(function: Any) -> tuple[type, str]:
        with pytest.raises((AttributeError, pickle.PicklingError)) as caught:
            pickle.dumps(function)
        return caught.type, str(caught.value)

    with TRACER.start_as_current_span("s"):
        assert told(carried(local)) == told(local)


def test_headers_that_cannot_be_read_cost_the_context_only() -> None:
    assert Carried(current, {"traceparent": "garbage", "X-Amzn-Trace-Id": "Root=?"})() == 0


def test_upstreams_instrumentor_has_its_own_wrapper() -> None:
    def theirs() -> None: ...

    theirs.__module__ = "opentelemetry.instrumentation.threading"
    with TRACER.start_as_current_span("s"):
        assert here(theirs) is theirs


def test_following_twice_and_no_longer() -> None:
    executors.follow_threads()
    executors.unfollow()
    with ThreadPoolExecutor(1) as pool, TRACER.start_as_current_span("s"):
        assert pool.submit(current).result() == 0
    assert not hasattr(ThreadPoolExecutor.submit, "__wrapped__")
    assert not hasattr(Pool.map, "__wrapped__")


@pytest.mark.skipif(sys.version_info < (3, 14), reason="InterpreterPoolExecutor is new in Python 3.14")
def test_a_pool_of_interpreters_gets_the_function_itself() -> None:
    from concurrent.futures import InterpreterPoolExecutor  # type: ignore[attr-defined]

    with InterpreterPoolExecutor(1) as pool, TRACER.start_as_current_span("s"):
        assert pool.submit(abs, -3).result() == 3
