"""Other ways to get an execution environment: snapshots that are restored many times, workers that are forked."""

from __future__ import annotations

import collections
import time

import pytest

from support.lambda_runtime import Runtime, trace_header, trace_id

pytestmark = pytest.mark.slow

CODE = """
import os, random, time
import boto3
random.seed(7)  # what a snapshot leaves of a random generator: the same state in every copy
dynamodb = boto3.client("dynamodb")

def handler(event, context):
    dynamodb.get_item(TableName="items", Key={"id": {"S": "7"}})
    time.sleep(event.get("seconds", 0))
    return os.getpid()
"""


@pytest.mark.parametrize("eager", ["true", "false"])
def test_copies_of_a_snapshot_have_ids_of_their_own(eager: str) -> None:
    seen = []
    for _ in range(2):
        env = {"SPANWELL_LAMBDA_EAGER": eager}
        with Runtime({"app.py": CODE}, layer="source", aws=True, snap_start=True, freeze=True, env=env) as lam:
            time.sleep(0.3)
            lam.restore()
            answers = [lam.invoke({}, trace=trace_header(parent=True)) for _ in range(2)]
            spans = lam.spans(4)
        assert len(spans) == 4
        assert all(span.received_ns < answers[number // 2].posted_ns for number, span in enumerate(spans))
        assert all(span.start_ns > lam.restored_ns for span in spans)
        seen += [span.span_id for span in spans]
    assert len(set(seen)) == 8


def test_every_worker_of_a_managed_instance_delivers_its_own_spans() -> None:
    env = {"AWS_LAMBDA_MAX_CONCURRENCY": "3", "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}
    with Runtime({"app.py": CODE}, layer="source", aws=True, env=env) as lam:
        lam.api.wait_for_workers(3)
        workers, headers, late = set(), [], []
        for _ in range(8):
            batch = [trace_header() for _ in range(3)]
            calls = [lam.begin({"seconds": 0.1}, trace=header, timeout=20) for header in batch]
            answers = [lam.finish(call) for call in calls]
            workers |= {answer.payload for answer in answers}
            headers += batch
            late += [answer.posted_ns for answer in answers]
        spans = lam.spans(48)
    assert len(workers) == 3
    assert len({span.span_id for span in spans}) == len(spans) == 48
    posted = dict(zip(map(trace_id, headers), late, strict=True))
    assert collections.Counter(span.trace_id for span in spans) == dict.fromkeys(posted, 2)
    assert all(span.received_ns < posted[span.trace_id] for span in spans)
