from __future__ import annotations

import contextvars
import threading

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import SpanContext

from spanwell import incoming
from spanwell.incoming import Incoming


def fresh(function):
    """Run the test in its own execution context, so nothing pending leaks."""

    def run():
        contextvars.Context().run(function)

    run.__name__ = function.__name__
    return run


@fresh
def test_an_expected_root_is_taken_once():
    incoming.expect_root(7, now=100.0)
    assert incoming.take_root(lambda: 101.0) == 7
    assert incoming.take_root(lambda: 101.0) == 0


@fresh
def test_a_forgotten_root_is_not_taken():
    incoming.expect_root(7, now=100.0)
    incoming.forget_root()
    assert incoming.take_root(lambda: 100.0) == 0


@fresh
def test_an_old_root_is_not_taken():
    incoming.expect_root(7, now=100.0)
    assert incoming.take_root(lambda: 100.0 + incoming.ROOT_LIFETIME + 0.1) == 0
    assert incoming.take_root(lambda: 100.0) == 0


@fresh
def test_the_clock_is_not_read_when_nothing_is_expected():
    def clock():
        raise AssertionError

    assert incoming.take_root(clock) == 0


@fresh
def test_copies_of_the_execution_context_share_the_one_shot():
    incoming.expect_root(7, now=0.0)
    copies = [contextvars.copy_context() for _ in range(8)]
    taken: list[int] = []
    barrier = threading.Barrier(8)

    def take(copy):
        barrier.wait()
        taken.append(copy.run(incoming.take_root, lambda: 0.0))

    threads = [threading.Thread(target=take, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [0] * 7 + [7]


@fresh
def test_forgetting_in_a_copy_leaves_the_original_alone():
    incoming.expect_root(7, now=0.0)
    contextvars.copy_context().run(incoming.forget_root)
    assert incoming.take_root(lambda: 0.0) == 7


def test_what_came_is_read_from_the_given_or_the_current_context():
    came = Incoming(7)
    context = incoming.put(Context({"a": 1}), came)
    assert context["a"] == 1
    assert incoming.of(context) is came
    assert incoming.of(None) is None
    token = attach(context)
    try:
        assert incoming.of(None) is came
    finally:
        detach(token)


def test_removing_leaves_the_rest_and_copies_nothing_without_need():
    plain = Context({"a": 1})
    assert incoming.without(plain) is plain
    assert incoming.without(incoming.put(plain, Incoming(7))) == plain


def test_the_other_parent_is_one_of_another_trace():
    other = SpanContext(7, 1, True)
    context = incoming.put(Context(), Incoming(7, other=other))
    assert incoming.other_parent(context, 8) is other
    assert incoming.other_parent(context, 7) is None
    assert incoming.other_parent(incoming.put(Context(), Incoming(7)), 8) is None
    assert incoming.other_parent(Context(), 8) is None
