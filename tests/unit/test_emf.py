"""What `emf` makes of metric points: documents, their limits, and what of them arrives on stdout; no network."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    InMemoryMetricReader,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from spanwell._guard import losses
from spanwell.export.cloudwatch_names import NAMESPACE, Chosen, parse
from spanwell.export.cloudwatch_points import Point, points, preferences
from spanwell.export.emf import EmfMetricExporter
from spanwell.export.emf_documents import Document, documents
from spanwell.export.emf_stdout import Stdout
from support.emf import check, totals

DELTA = AggregationTemporality.DELTA
NOW = 1_700_000_000_000_000_000


@pytest.fixture(autouse=True)
def _no_losses() -> Iterator[None]:
    losses.reset()
    yield
    losses.reset()


def data(*metrics: Metric, **resource: str) -> MetricsData:
    scope = ScopeMetrics(InstrumentationScope("x"), list(metrics), "")
    return MetricsData([ResourceMetrics(Resource({"service.name": "shop", **resource}), [scope], "")])


def gauge(name: str, value: float, **attributes: Any) -> Metric:
    return Metric(name, "", "", Gauge([NumberDataPoint(attributes, 0, NOW, value)]))


def insights(*counts: tuple[str, str, int]) -> Metric:
    made = [
        NumberDataPoint({"spanwell.insight.type": kind, "spanwell.insight.severity": severity}, 0, NOW, number)
        for kind, severity, number in counts
    ]
    return Metric("spanwell.insights", "", "{insight}", Sum(made, DELTA, is_monotonic=True))


def chosen(*listed: str, **options: Any) -> Chosen:
    return parse(listed, pytest.fail, **options)


def made(collected: MetricsData, wanted: Chosen, max_bytes: int = 4094) -> list[Document]:
    return list(documents(points(collected, wanted), max_bytes=max_bytes))


def test_the_three_insights_with_exactly_their_dimensions() -> None:
    found = made(
        data(insights(("slow_trace", "warning", 3), ("trace_errors", "error", 2), ("n_plus_one", "info", 9))),
        chosen(namespace="Mine"),
    )
    assert totals(each for document in found for each in check(document.line)) == {
        (NAMESPACE, "slow_trace", (("Severity", "warning"), ("ServiceName", "shop"))): (3, 3),
        (NAMESPACE, "trace_errors", (("Severity", "error"), ("ServiceName", "shop"))): (2, 2),
    }


def test_what_is_no_dimension_stands_at_the_root() -> None:
    collected = data(
        gauge(
            "a.b",
            7,
            **{"http.route": "/a", "tenant": "t-1", "n": 3, "ok": True, "tags": ("x", "y"), "nan": float("nan")},
        ),
        **{"deployment.environment.name": "prod"},
    )
    (document,) = made(
        collected, chosen("a.b:http.route+deployment.environment.name/service", namespace="Shop/Metrics")
    )
    root = json.loads(document.line)
    both = (("http.route", "/a"), ("deployment.environment.name", "prod"), ("ServiceName", "shop"))
    assert totals(check(document.line)) == {
        ("Shop/Metrics", "a.b", both): (1, 7),
        ("Shop/Metrics", "a.b", (("ServiceName", "shop"),)): (1, 7),
    }
    assert (root["tenant"], root["n"], root["ok"], root["tags"]) == ("t-1", 3, True, "x,y")
    assert "nan" not in root
    assert root["_aws"]["Timestamp"] == NOW // 1_000_000


def test_points_that_differ_in_a_field_are_documents_of_their_own() -> None:
    both = Metric("a.b", "", "", Gauge([NumberDataPoint({"tenant": name}, 0, NOW, 1) for name in ("x", "y")]))
    found = made(data(both), chosen("a.b"))
    assert [json.loads(document.line)["tenant"] for document in found] == ["x", "y"]


def test_a_document_holds_at_most_100_metrics_and_no_name_twice() -> None:
    metrics = [gauge(f"a.b{number}", number) for number in range(250)]
    found = made(data(*metrics, gauge("a.b0", 9)), chosen("a.*"), 200_000)
    assert [document.metrics for document in found] == [100, 100, 51]
    assert totals(each for document in found for each in check(document.line))[
        NAMESPACE, "a.b0", (("ServiceName", "shop"),)
    ] == (2, 9)


def test_attributes_never_take_the_place_of_a_metric_a_dimension_or_the_metadata() -> None:
    attributes = {"_aws": "x", "a.b": "y", "ServiceName": "z", "": "empty", "k": "kept"}
    (document,) = made(data(gauge("a.b", 1, **attributes)), chosen("a.b"))
    assert totals(check(document.line)) == {(NAMESPACE, "a.b", (("ServiceName", "shop"),)): (1, 1)}
    assert json.loads(document.line)["k"] == "kept"


def test_a_document_on_stdout_fits_into_one_write_whatever_it_holds() -> None:
    values = {1.1**number: number + 1.0 for number in range(300)}
    fields = {f"key{number}": "v" * 5000 for number in range(100)}
    point = Point("N", "a.b", "Seconds", values, NOW, ((("Operation", "x" * 1024), ("ServiceName", "s")),), fields)
    found = list(documents([point], max_bytes=4094))
    assert all(len(document.line) <= 4094 for document in found)
    count, total = totals(each for document in found for each in check(document.line))[
        "N", "a.b", (("Operation", "x" * 1024), ("ServiceName", "s"))
    ]
    assert count == sum(values.values())
    assert total == pytest.approx(sum(value * number for value, number in values.items()))


def test_exemplars_name_the_trace_of_the_largest_value() -> None:
    reader = InMemoryMetricReader(**preferences())
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    histogram = provider.get_meter("x").create_histogram("a.b", unit="s")
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("x")
    for value in (1.0, 9.0, 3.0):
        with tracer.start_as_current_span("x") as span:
            histogram.record(value)
            if value == 9.0:
                slowest = span.get_span_context()
    collected = reader.get_metrics_data()
    assert collected is not None
    (document,) = made(collected, chosen("a.b"))
    root = json.loads(document.line)
    assert root["trace_id"] == f"{slowest.trace_id:032x}"
    assert root["span_id"] == f"{slowest.span_id:016x}"
    (found,) = check(document.line)
    assert found.unit == "Seconds"
    assert sum(count for _, count in found.values) == 3
    provider.shutdown()


# --- stdout ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        try:
            os.close(fd)
        except OSError:
            pass


def waiting(*texts: str) -> deque[Document]:
    return deque(Document(0, text.encode(), 1) for text in texts)


class Refusals:
    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []

    def __call__(self, number: int, why: object) -> None:
        self.told.append((number, str(why)))


def test_lines_are_written_in_blocks_that_a_pipe_takes_whole(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    original = os.write
    monkeypatch.setattr(os, "write", lambda fd, piece: (written.append(piece), original(fd, piece))[1])
    queue = waiting(*(f"{number:>1000}" for number in range(10)))
    Stdout(pipe[1]).write(queue, pytest.fail)
    assert not queue
    assert len(written) == 3
    assert all(len(piece) <= 4096 and piece.startswith(b"\n") and piece.endswith(b"\n") for piece in written)
    assert [line.strip() for line in os.read(pipe[0], 100_000).decode().split()] == [str(n) for n in range(10)]


def test_a_reader_that_takes_nothing_is_waited_for_in_bounds_and_gets_it_later(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x" * fcntl.fcntl(pipe[1], fcntl.F_GETPIPE_SZ))
    stdout = Stdout(pipe[1], seconds=0.02)
    queue = waiting("a", "b")
    with pytest.raises(TimeoutError, match="taken nothing"):
        stdout.write(queue, pytest.fail)
    assert len(queue) == 2
    os.read(pipe[0], 1 << 20)
    stdout.write(queue, pytest.fail)
    assert not queue
    assert os.read(pipe[0], 100).split() == [b"a", b"b"]


def test_a_long_line_that_is_cut_off_is_written_again_on_a_line_of_its_own(pipe: tuple[int, int]) -> None:
    room = fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
    queue = waiting("y" * (room * 3))
    stdout = Stdout(pipe[1], seconds=0.02)
    with pytest.raises(TimeoutError):
        stdout.write(queue, pytest.fail)
    got: list[bytes] = [os.read(pipe[0], 1 << 20)]
    reader = threading.Thread(target=lambda: [got.append(os.read(pipe[0], 4096)) for _ in range(4)])
    reader.start()
    Stdout(pipe[1], seconds=10).write(queue, pytest.fail)
    os.close(pipe[1])
    reader.join()
    assert b"".join(got).split(b"\n")[-2] == b"y" * (room * 3)


def test_without_a_reader_everything_is_refused(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    queue, refusals = waiting("a", "b"), Refusals()
    Stdout(pipe[1]).write(queue, refusals)
    assert not queue
    ((number, why),) = refusals.told
    assert number == 2
    assert "nobody reads stdout" in why


def test_what_has_become_of_the_number_of_stdout_is_not_written_to(tmp_path: Any) -> None:
    reading, writing = os.pipe()
    stdout = Stdout(writing)
    os.close(writing)
    queue, refusals = waiting("a"), Refusals()
    stdout.write(queue, refusals)
    precious = os.open(tmp_path / "precious", os.O_CREAT | os.O_WRONLY)
    os.dup2(precious, writing)  # as a rule it has that number already
    queue.extend(waiting("b"))
    stdout.write(queue, refusals)
    for fd in {precious, writing, reading}:
        os.close(fd)
    assert (tmp_path / "precious").read_bytes() == b""
    assert [number for number, _ in refusals.told] == [1, 1]
    assert "closed or replaced" in refusals.told[0][1]


def test_a_stdout_that_does_not_block_is_waited_for(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    original, tried = os.write, []

    def write(fd: int, piece: bytes) -> int:
        tried.append(piece)
        if len(tried) == 1:
            raise BlockingIOError(errno.EAGAIN, "busy")
        return original(fd, piece)

    monkeypatch.setattr(os, "write", write)
    queue, slept = waiting("a"), []
    Stdout(pipe[1], sleep=slept.append).write(queue, pytest.fail)
    assert (len(tried), len(slept), os.read(pipe[0], 10)) == (2, 1, b"\na\n")


# --- the exporter ---------------------------------------------------------------------------------------------------


class Sink:
    destination = "a sink"
    missing = denied = ""
    max_bytes = 4094

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.lines: list[bytes] = []

    def begin(self) -> None:
        pass

    def write(self, waiting: deque[Document], refused: Any) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.lines += [document.line for document in waiting]
        waiting.clear()


def test_what_fails_goes_with_the_next_export_once() -> None:
    sink = Sink(OSError("disk full"), TimeoutError("slow"))
    exporter = EmfMetricExporter(chosen(), sink=sink)
    results = [exporter.export(data(insights(("slow_trace", "warning", number)))) for number in (1, 10, 100, 1000)]
    assert [result.name for result in results] == ["FAILURE", "FAILURE", "SUCCESS", "SUCCESS"]
    ((count, total),) = totals(each for line in sink.lines for each in check(line)).values()
    assert (count, total) == (1111, 1111)
    assert losses.snapshot() == {}


def test_what_waits_is_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from spanwell.export import emf

    monkeypatch.setattr(emf, "_MAX_DOCUMENTS", 3)
    exporter = EmfMetricExporter(chosen(), sink=Sink(*[OSError("gone")] * 9))
    for _ in range(5):
        exporter.export(data(insights(("slow_trace", "warning", 1))))
    exporter.shutdown()
    exporter.shutdown()
    assert losses.snapshot() == {("metrics", "too many wait (emf)"): 2, ("metrics", "exit (emf)"): 3}


def test_an_export_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from spanwell.export import cloudwatch_keeping

    monkeypatch.setattr(cloudwatch_keeping, "_LAST_SECONDS", 0.01)
    inside, go = threading.Event(), threading.Event()

    class Hanging(Sink):
        def write(self, waiting: deque[Document], refused: Any) -> None:
            inside.set()
            go.wait(30)

    exporter = EmfMetricExporter(chosen(), sink=Hanging())
    thread = threading.Thread(target=exporter.export, args=(data(insights(("slow_trace", "warning", 1))),))
    thread.start()
    inside.wait(30)
    exporter.shutdown()
    assert losses.snapshot() == {("metrics", "exit (emf)"): 1}
    go.set()
    thread.join()


def test_with_nothing_to_tell_nothing_is_written() -> None:
    exporter = EmfMetricExporter(chosen(), sink=Sink(OSError("never asked")))
    assert exporter.export(data(gauge("a.b", 1))) is MetricExportResult.SUCCESS


def test_sets_of_dimensions_and_namespaces() -> None:
    problems: list[str] = []
    found = parse(
        ["entry.duration", "a.b:x+y/service/x", "c.d:x++y", "http.*", "*", "http.server.*:z"],
        problems.append,
        dimensions=("operation+outcome", "service"),
        namespace="AWS/Mine",
    )
    assert found.namespace == NAMESPACE
    general = (("spanwell.operation", "spanwell.outcome"), ())
    assert found.sets_of("spanwell.entry.duration") == general
    assert found.sets_of("a.b") == (("x", "y"), (), ("x",))
    assert found.sets_of("http.server.duration") == (("z",),)
    assert found.sets_of("http.client.duration") == found.sets_of("anything") == general
    assert chosen("a.b").sets_of("c.d") is None
    assert [problem.split(":")[0].split("=")[0] for problem in problems] == [
        "SPANWELL_CLOUDWATCH_METRICS",
        "SPANWELL_METRICS_NAMESPACE",
    ]
    problems.clear()
    assert parse(["a.b"], problems.append, dimensions=("x++",)).metrics == {"a.b": ((),)}
    assert problems[0].startswith("SPANWELL_METRICS_DIMENSIONS='x++' is left out")


def python_stdout(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(fd, "wb", closefd=False)))


def test_documents_never_stand_in_the_middle_of_a_line_that_python_holds_back(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spanwell.export import emf_stdout

    monkeypatch.setattr(emf_stdout, "_BUFFER_IS_SAFE", True)
    stream = python_stdout(pipe[1])
    monkeypatch.setattr("sys.stdout", stream)
    for number in range(300):  # more than a buffer holds: a part is out, and ends anywhere
        print(f"{number:0>99}", file=stream)
    Stdout(pipe[1]).write(waiting("document"), pytest.fail)
    stream.flush()
    got = os.read(pipe[0], 1 << 20).decode().splitlines()
    assert [line for line in got if line and line != "document"] == [f"{number:0>99}" for number in range(300)]
    assert got.count("document") == 1


def test_where_the_buffer_could_block_it_is_left_alone(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from spanwell.export import emf_stdout

    monkeypatch.setattr(emf_stdout, "_BUFFER_IS_SAFE", True)
    stream = python_stdout(pipe[1])
    monkeypatch.setattr("sys.stdout", stream)
    stream.write("held back")
    stream.buffer.write(b"in the buffer")
    room = fcntl.fcntl(pipe[1], fcntl.F_GETPIPE_SZ)
    os.write(pipe[1], b"x" * (room - 20_000))
    Stdout(pipe[1], seconds=0.05).write(waiting("document"), pytest.fail)
    got = os.read(pipe[0], 1 << 20)
    assert got.endswith(b"x\ndocument\n")
    stream.flush()
    assert os.read(pipe[0], 1 << 20) == b"in the bufferheld back"
