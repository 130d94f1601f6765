"""How functions end without answering: timeouts, crashes, kills; and what of their spans is there all the same."""

from __future__ import annotations

import collections
import signal

import pytest

from support.lambda_runtime import Runtime

pytestmark = pytest.mark.slow

CODE = """
import os, signal, sys, time
import boto3
dynamodb = boto3.client("dynamodb")

def handler(event, context):
    dynamodb.get_item(TableName="items", Key={"id": {"S": "7"}})
    what = event.get("what")
    if what == "sleep":
        until = time.time() + event["seconds"]
        while (left := until - time.time()) > 0:
            time.sleep(left)
    if what == "exit":
        sys.exit(3)
    if what == "base":
        raise GeneratorExit("no Exception")
    if what == "crash":
        os._exit(9)
    if what == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "oom":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"done": True}
"""


def ids(spans: list) -> collections.Counter:
    return collections.Counter(span.span_id for span in spans)


def twice(spans: list) -> list[str]:
    return [each for each, number in ids(spans).items() if number > 1]


def runtime(**options) -> Runtime:
    return Runtime({"app.py": CODE}, layer="source", aws=True, **options)


def test_a_timeout_loses_no_span() -> None:
    with runtime() as lam:
        lam.invoke({})
        late = lam.invoke({"what": "sleep", "seconds": 20}, timeout=1.5)
        assert late.timed_out
        spans = lam.spans(4)
        assert len(spans) == 4
        root = next(span for span in spans if span.attributes.get("faas.invocation_id") == late.request_id)
        assert root.received_ns < late.sent_ns + 1_500_000_000
        again = lam.invoke({})
        assert again.payload == {"done": True}
        assert lam.starts == 2
        assert len(lam.spans(6)) == 6
        assert twice(lam.spans()) == []


def test_a_handler_that_returns_after_the_deadline_guard_has_no_span_twice() -> None:
    with runtime() as lam:
        lam.invoke({})
        answer = lam.invoke({"what": "sleep", "seconds": 1.4}, timeout=1.5)
        spans = lam.spans(4)
        if not answer.timed_out:  # a machine under load may be too late: then it is the other test
            assert answer.payload == {"done": True}
        lam.invoke({})
        spans = lam.spans(6)
    assert twice(spans) == []
    assert len(spans) == 6


@pytest.mark.parametrize("what", ["exit", "base"])
def test_what_is_no_exception_still_ends_the_span(what: str) -> None:
    with runtime() as lam:
        answer = lam.invoke({"what": what})
        assert answer.exit_code is not None
        spans = lam.spans(2)
    assert len(spans) == 2
    root = next(span for span in spans if span.attributes.get("faas.invocation_id") == answer.request_id)
    assert root.status == "ERROR"


@pytest.mark.parametrize("what", ["crash", "segv", "oom"])
def test_a_crash_loses_its_own_invocation_at_most(what: str) -> None:
    with runtime() as lam:
        whole = [lam.invoke({}).request_id for _ in range(5)]
        ended = lam.invoke({"what": what})
        assert ended.exit_code == {"crash": 9, "segv": -signal.SIGSEGV, "oom": -signal.SIGKILL}[what]
        whole.append(lam.invoke({}).request_id)
        spans = lam.spans(12)
    found = {span.attributes.get("faas.invocation_id") for span in spans} - {None, ended.request_id}
    assert found == set(whole)
    assert twice(spans) == []
    assert lam.starts == 2


def test_a_process_killed_while_frozen_owes_nothing() -> None:
    with runtime(freeze=True) as lam:
        lam.invoke({})
        lam.kill()
        lam.invoke({})
        assert len(lam.spans(4)) == 4
