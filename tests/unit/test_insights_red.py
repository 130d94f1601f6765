"""RED aggregates: labels, bounds, threads, forks."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from spanwell.analysis.names import DEPENDENCY, ENTRY
from spanwell.insights import labels
from spanwell.insights.red import Red
from support.ended import count

MS = 1_000_000
HTTP = {"http.request.method": "GET", "http.route": "/orders/{id}", "http.response.status_code": 200}


def counted(red: Red) -> dict[tuple[str, tuple[tuple[str, str], ...]], int]:
    return {(series.metric, series.labels): histogram.count for series, histogram in red.drain()}


def one(red: Red) -> tuple[str, dict[str, str]]:
    ((metric, named),) = counted(red)
    return metric, dict(named)


def entry(
    attributes: dict[str, Any], *, name: str = "x", kind: str = "server", failed: bool = False
) -> dict[str, str]:
    red = Red()
    count(red, name, kind, True, MS, failed, attributes)
    metric, named = one(red)
    assert metric == ENTRY
    return named


def call(attributes: dict[str, Any], *, kind: str = "client", failed: bool = False) -> dict[str, str]:
    red = Red()
    count(red, "x", kind, False, MS, failed, attributes)
    metric, named = one(red)
    assert metric == DEPENDENCY
    return named


@pytest.mark.parametrize(
    ("name", "attributes", "operation"),
    [
        ("GET", HTTP, "GET /orders/{id}"),
        ("GET", {"http.method": "GET", "http.target": "/orders/17?x=1"}, "GET /orders/{id}"),
        ("GET", {"http.request.method": "GET", "url.path": "/orders/17"}, "GET /orders/{id}"),
        ("GET", {"http.request.method": "GET"}, "GET"),
        ("x", {"rpc.system": "grpc", "rpc.service": "shop.Orders", "rpc.method": "Place"}, "shop.Orders/Place"),
        (
            "orders process",
            {"messaging.destination.name": "orders", "messaging.operation.type": "process"},
            "process orders",
        ),
        ("x", {"messaging.destination.name": "tmp-20240117"}, "process {id}"),
        ("nightly 12345", {}, "nightly {id}"),
        ("", {}, "unknown"),
    ],
)
def test_the_operation_of_an_entry(name: str, attributes: dict[str, Any], operation: str) -> None:
    assert entry(attributes, name=name)["spanwell.operation"] == operation


@pytest.mark.parametrize(
    ("attributes", "failed", "outcome", "error"),
    [
        ({"http.response.status_code": 200}, False, "ok", None),
        ({"http.response.status_code": 304}, False, "ok", None),
        ({"http.status_code": 404}, False, "error", "404"),
        ({"http.response.status_code": 404, "error.type": "NotFound"}, True, "error", "NotFound"),
        ({"http.response.status_code": 503}, True, "fault", "503"),
        ({"http.response.status_code": 200, "error.type": "TimeoutError"}, True, "fault", "TimeoutError"),
        ({}, True, "fault", "_OTHER"),
        ({"error.type": "ignored"}, False, "ok", None),
        ({"http.response.status_code": "500"}, False, "ok", None),  # not an integer: nobody's convention
    ],
)
def test_the_outcome_is_that_of_application_signals(
    attributes: dict[str, Any], failed: bool, outcome: str, error: str | None
) -> None:
    named = entry(attributes, failed=failed)
    assert (named["spanwell.outcome"], named.get("error.type")) == (outcome, error)


@pytest.mark.parametrize(
    ("attributes", "peer", "operation"),
    [
        ({"service.peer.name": "pay", "peer.service": "old", "server.address": "h"}, "pay", "call"),
        ({"peer.service": "pay", "http.request.method": "GET"}, "pay", "GET"),
        (
            {
                "rpc.system": "aws-api",
                "rpc.service": "DynamoDB",
                "rpc.method": "PutItem",
                "aws.remote.service": "AWS::DynamoDB",
                "aws.remote.resource.identifier": "orders",
            },
            "AWS::DynamoDB/orders",
            "PutItem",
        ),
        ({"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": "GetObject"}, "AWS::S3", "GetObject"),
        ({"rpc.system.name": "aws-api", "rpc.method": "S3/GetObject"}, "AWS::S3", "GetObject"),
        ({"db.system": "sqlite", "db.name": "main"}, "sqlite/main", "query"),
        (
            {
                "db.system.name": "postgresql",
                "server.address": "db",
                "server.port": 5432,
                "db.operation.name": "SELECT",
            },
            "postgresql/db:5432",
            "SELECT",
        ),
        ({"messaging.system": "kafka", "messaging.destination.name": "orders"}, "kafka/orders", "send"),
        ({"server.address": "h", "server.port": 8080, "http.request.method": "GET"}, "h:8080", "GET"),
        ({"server.address": "h", "server.port": 443}, "h", "call"),
        ({"http.method": "GET", "http.url": "http://u:p@h:81/x/12?y"}, "h:81", "GET"),
        ({"http.request.method": "GET", "url.template": "/x/{id}", "server.address": "h"}, "h", "GET /x/{id}"),
        ({"rpc.system": "grpc", "rpc.service": "S", "rpc.method": "M"}, "S", "M"),
        ({"http.url": 7, "server.address": ""}, "unknown", "call"),
    ],
)
def test_the_peer_and_what_it_is_asked_for(attributes: dict[str, Any], peer: str, operation: str) -> None:
    named = call(attributes)
    assert (named["spanwell.peer"], named["spanwell.operation"]) == (peer, operation)


def test_what_is_neither_entry_nor_call_does_not_count() -> None:
    red = Red()
    count(red, "x", "internal", False, MS, True, {})
    count(red, "x", "server", False, MS, True, HTTP)
    assert counted(red) == {}


def test_two_urls_of_one_host_are_one_series_and_two_hosts_are_two() -> None:
    red = Red()
    for url in ("http://a/1", "http://a/2", "http://b/1"):
        count(red, "GET", "client", False, MS, False, {"http.method": "GET", "http.url": url})
    assert sorted(counted(red).values()) == [1, 2]


def test_each_sort_of_call_has_keys_of_its_own() -> None:
    """The same values under the keys of different conventions are different calls."""
    red = Red()
    for keys in (labels.RPC_CALL, labels.DB_CALL, labels.MESSAGE_CALL, labels.HTTP_CALL):
        attributes: dict[str, Any] = dict.fromkeys(keys, "v")
        for key in ("service.peer.name", "peer.service", "aws.remote.service"):
            del attributes[key]
        count(red, "x", "client", False, MS, False, attributes)
    assert len(red._known) == 4


def test_operations_beyond_the_limit_are_other_and_nothing_is_lost() -> None:
    red = Red(max_operations=3)
    for number in range(10):
        count(red, "GET", "server", True, MS, False, {**HTTP, "http.route": f"/{'abcdefghij'[number]}"})
    found = {dict(named)["spanwell.operation"]: count for (_, named), count in counted(red).items()}
    assert found == {"GET /a": 1, "GET /b": 1, "GET /c": 1, "other": 7}


def test_the_number_of_series_is_bounded_whatever_comes() -> None:
    red = Red(max_series=60, max_operations=1000, max_peers=1000)
    for number in range(3000):
        error = {"error.type": f"E{number % 500}"}
        count(red, "GET", "server", True, MS, number % 2 == 0, {"http.route": f"/r{number}", **HTTP, **error})
        count(red, "GET", "client", False, MS, number % 3 == 0, {"server.address": f"h{number}", **error})
        red.insight(f"own_{number}", ("info", "warning", "error")[number % 3])
    assert red.series <= 60
    assert sum(counted(red).values()) == 6000
    assert sum(red.insights().values()) == 3000
    assert red.budget.refused > 0


def test_long_values_of_requests_are_not_remembered() -> None:
    red = Red()
    for number in range(50):
        count(red, "x", "client", False, MS, False, {"server.address": "h" * 100_000 + str(number)})
    assert len(red._known) == 0
    assert red.series == 1


def test_values_of_odd_types_do_no_harm() -> None:
    red = Red()
    count(red, "x", "server", True, -5, False, {"http.request.method": ["GET"], "http.route": 7})
    count(red, "x", "client", False, 2**80, False, {"server.address": ("a",), "server.port": {}})
    assert sum(counted(red).values()) == 2


def test_no_observation_of_any_thread_is_lost() -> None:
    red = Red()
    drained: list[int] = []
    done = threading.Event()

    def work() -> None:
        for number in range(5000):
            count(red, "GET", "server", True, number, False, HTTP)

    def collect() -> None:
        while not done.is_set():
            drained.extend(histogram.count for _, histogram in red.drain())

    threads = [threading.Thread(target=work) for _ in range(4)]
    collector = threading.Thread(target=collect)
    for thread in (*threads, collector):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    collector.join()
    drained.extend(histogram.count for _, histogram in red.drain())
    assert sum(drained) == 20_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_counts_from_nothing() -> None:
    red = Red()
    count(red, "GET", "server", True, MS, False, HTTP)
    red.insight("slow_trace", "warning")
    red._lock.acquire()  # as if another thread were in the middle of something
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        count(red, "GET", "server", True, MS, False, {**HTTP, "http.route": "/b"})
        os.write(writing, f"{sorted(counted(red).values())} {red.insights()}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    red._lock.release()
    assert os.read(reading, 1000).decode() == "[1] {}"
    assert sum(counted(red).values()) == 1
