"""The `dynamodb` exporter and its reader over moto and dynalite, with a proxy in between that fails as AWS does."""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError

from spanwell import _guard
from spanwell.cli.dynamodb_table import WrongTable, definition, make
from spanwell.explore.model import AmbiguousTraceError, NoStoreError, StoreError, UnknownTraceError
from spanwell.explore.stores.dynamodb import DynamoDbStore
from spanwell.explore.stores.sqlite import SqliteStore, TraceFilter
from spanwell.explore.summary import summarise
from spanwell.export import aws_client
from spanwell.export.dynamodb import DynamoDbSpanExporter
from spanwell.export.sqlite import SqliteSpanExporter
from support.faults import RESET_AFTER, RESET_BEFORE, TRUNCATE, error, fault_proxy, partial, seeded, status, throttle
from support.node import dynalite
from support.servers import moto
from support.spans import make_span, nezha
from support.tables import endpoint, scan, span_ids

pytestmark = pytest.mark.slow

PROOF = "the dynamodb exporter keeps DynamoDB's limits and loses no span uncounted"
SECOND = 1_000_000_000
DAY = 86_400


class Server(NamedTuple):
    """A simulated DynamoDB."""

    name: str
    url: str
    client: Any

    def table(self, name: str) -> str:
        list(make(self.client, name, ttl=self.name == "moto"))
        return name


@pytest.fixture(scope="module", params=["moto", "dynalite"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    start: Callable[[], Any] = moto if request.param == "moto" else lambda: dynalite(PROOF)
    with start() as url, endpoint(url):
        yield Server(request.param, url, aws_client.make_client("dynamodb"))


def exporter_to(url: str, table: str, **options: Any) -> DynamoDbSpanExporter:
    with endpoint(url):
        exporter = DynamoDbSpanExporter(table, **options)
        exporter._client = exporter._make()
    return exporter


def sent(exporter: DynamoDbSpanExporter, spans: list[Any]) -> int:
    exporter.export(spans)
    return _guard.losses.total("spans")


# --- the table --------------------------------------------------------------------------------------------------


def test_making_it_again_changes_nothing(server: Server) -> None:
    first = list(make(server.client, "again", ttl=server.name == "moto"))
    again = list(make(server.client, "again", ttl=server.name == "moto"))
    assert [line.split()[0] for line in first] == ["made"] * len(first)
    assert [line.split()[0] for line in again][:2] == ["found", "found"]
    found = server.client.describe_table(TableName="again")["Table"]
    assert found["KeySchema"] == definition("again")["KeySchema"]


def test_expiry_that_is_on_stays_on(server: Server) -> None:
    answer = {"Error": {"Code": "ValidationException", "Message": "TimeToLive is already enabled"}}

    def enabled(**_: Any) -> None:  # moto does not mind, AWS does
        raise ClientError(answer, "UpdateTimeToLive")  # type: ignore[arg-type]

    client = aws_client.make_client("dynamodb")
    client.update_time_to_live = enabled
    assert list(make(client, "expiring"))[2] == "found expiry: items go by expires_at"


def test_expiry_is_on(server: Server) -> None:
    if server.name != "moto":
        return  # dynalite has none
    server.table("expires")
    found = server.client.describe_time_to_live(TableName="expires")["TimeToLiveDescription"]
    assert found == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}


def test_somebody_elses_table_is_left_alone(server: Server) -> None:
    theirs = {
        "TableName": "theirs",
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    server.client.create_table(**theirs)
    with pytest.raises(WrongTable, match=r'table theirs is not one of spanwell\'s: its keys are \["id"\]'):
        list(make(server.client, "theirs"))


def test_a_table_that_is_not_there(server: Server) -> None:
    exporter = exporter_to(server.url, "nowhere")
    result = exporter.send([exporter.encode(make_span())[0]])
    assert (result.lost, result.reached) == (1, False)
    assert "`spanwell dynamodb create --table nowhere` makes it" in result.reason
    with (
        DynamoDbStore("nowhere") as store,
        pytest.raises(NoStoreError, match="there is no table nowhere in eu-west-1"),
    ):
        store.newest()


# --- limits -----------------------------------------------------------------------------------------------------


def test_many_spans_large_ones_and_the_same_twice(server: Server) -> None:
    table = server.table("limits")
    chance = random.Random(3)
    noise = {f"{key:02}": "".join(chance.choices(string.printable, k=60_000)) for key in range(14)}
    spans = [make_span(trace_id=number // 9 + 1, span_id=number + 1) for number in range(120)]
    spans += [make_span(trace_id=50, span_id=1000 + number, attributes=noise) for number in range(3)]
    exporter = exporter_to(server.url, table)
    assert sent(exporter, [*spans, *spans[:30]]) == 0
    stored = span_ids(scan(server.client, table))
    assert stored == {f"{span.context.span_id:016x}": 1 for span in spans if span.context}
    with DynamoDbStore(table) as store:
        (cut,) = [span for span in store.get(f"{50:032x}").spans if span.span_id == f"{1000:016x}"]
    assert len(cut.attributes) == 14
    assert all(str(value).endswith("characters]") for value in cut.attributes.values())


# --- faults -----------------------------------------------------------------------------------------------------

FAULTS = {
    "unprocessed": [partial(0, 3, 4), partial(share=0.5, seed=1), partial(0)],
    "throttled": [throttle(), throttle(), partial(1), throttle()],
    "reset before": [RESET_BEFORE, RESET_BEFORE],
    "reset after": [RESET_AFTER, RESET_AFTER],
    "truncated": [TRUNCATE],
    "down": [status(503), status(500)],
    "mixed": [throttle(), RESET_AFTER, partial(share=0.9, seed=2), status(502), partial(2, 3)],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_span_arrives_once(server: Server, fault: str) -> None:
    table = server.table(f"fault-{fault.replace(' ', '-')}")
    spans = nezha()
    with fault_proxy(server.url, FAULTS[fault]) as proxy:
        assert sent(exporter_to(proxy.url, table), spans) == 0
        assert sum(proxy.did[kind] for kind in proxy.did if kind != "pass") == len(FAULTS[fault])
    stored = span_ids(scan(server.client, table))
    assert stored == {f"{span.context.span_id:016x}": 1 for span in spans if span.context}
    with DynamoDbStore(table) as store:
        assert sum(each.spans for each in store.newest(limit=1000)) == len(spans)
        assert all(each == summarise(store.get(each.trace_id)) for each in store.newest(limit=4))


@pytest.mark.parametrize("seed", [1, 2])
def test_stored_and_lost_make_the_whole(server: Server, seed: int) -> None:
    """With more faults than the time allows: each span is there, or counted."""
    table = server.table(f"chaos-{seed}")
    spans = nezha()
    rates = {"throttle": 0.3, "partial": 0.3, "reset_before": 0.1, "status": 0.1}
    with fault_proxy(server.url, seeded(seed, rates)) as proxy:
        exporter = exporter_to(proxy.url, table, limit=0.5)
        for start in range(0, len(spans), 60):
            lost = sent(exporter, spans[start : start + 60])
    stored = span_ids(scan(server.client, table))
    assert len(stored) + lost == len(spans)
    assert set(stored.values()) == {1}


def test_at_the_end_nothing_is_waited_for(server: Server) -> None:
    table = server.table("end")
    spans = nezha()
    with fault_proxy(server.url, seeded(5, {"throttle": 0.4, "partial": 0.4})) as proxy:
        exporter = exporter_to(proxy.url, table)
        exporter.last_attempt()
        lost = sent(exporter, spans)
        writes = proxy.operations["BatchWriteItem"]
    assert lost > 0
    assert len(span_ids(scan(server.client, table))) + lost == len(spans)
    assert writes < 40  # each request once: nine of spans, and those of the summaries


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (error("AccessDeniedException"), "allow dynamodb:BatchWriteItem on table denied in eu-west-1"),
        (error("ExpiredTokenException"), "the AWS credentials have expired"),
        (error("UnrecognizedClientException"), "AWS does not know these credentials"),
        (error("ResourceNotFoundException"), "spanwell dynamodb create --table denied"),
    ],
)
def test_refused_for_good(server: Server, fault: Any, said: str) -> None:
    with fault_proxy(server.url, lambda _: fault) as proxy:
        exporter = exporter_to(proxy.url, "denied")
        result = exporter.send([exporter.encode(make_span())[0] for _ in range(30)])
        assert (result.lost, result.reached) == (30, False)
        assert said in result.reason
        assert "\n" not in result.reason
        assert proxy.operations["BatchWriteItem"] == 1


def test_a_reader_without_permission_is_told(server: Server) -> None:
    with (
        fault_proxy(server.url, lambda _: error("AccessDeniedException")) as proxy,
        endpoint(proxy.url),
        DynamoDbStore("any-table") as store,
        pytest.raises(StoreError, match=r"cannot use the table any-table: AccessDenied.*allow dynamodb:Query"),
    ):
        store.newest()


# --- reading ----------------------------------------------------------------------------------------------------


class Filled(NamedTuple):
    """The same traces in a table and in a file."""

    table: str
    file: str
    start: int


@pytest.fixture(scope="module")
def filled(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Twelve traces, 20 minutes apart, and in three batches: the newest first, inner spans before outer ones."""
    table, file = server.table("filled"), str(tmp_path_factory.mktemp("same") / "traces.db")
    newest = time.time_ns() - 600 * SECOND
    outer, inner = [], []
    for number in range(1, 13):
        start = newest - (12 - number) * 1200 * SECOND
        trace = number << 96
        error = "boom" if number in (4, 9) else None
        length = number * 100_000_000
        name = f"GET /Item{number}"
        outer.append(make_span(trace_id=trace, span_id=1, name=name, start=start, duration=length, error=error))
        service = "orders" if number % 2 == 0 else "stock"
        # Number 6 spans two hours for sure.
        late = start + (3700 * SECOND if number == 6 else 10)
        inner.append(
            make_span(trace_id=trace, span_id=2, parent=1, name="SELECT 50%_off", service=service, start=late)
        )
        if number == 7:
            inner.append(make_span(trace_id=trace, span_id=3, parent=99, start=start))
    # Each batch is one of another process, or of the same process later.
    batches = [inner[6:], inner[:6], outer[::-1]]
    for exporter in (exporter_to(server.url, table), SqliteSpanExporter(file)):
        for batch in batches:
            exporter.export(batch)
        exporter.shutdown()
    return Filled(table, file, newest)


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"limit": 3},
        {"service": "orders"},
        {"service": "unheard"},
        {"errors": True},
        {"errors": True, "service": "orders"},
        {"min_duration_ns": 800_000_000},
        {"since": 3},
        {"since": 3, "service": "shop", "limit": 2},
        {"name": "item1"},
        {"name": "50%_OFF", "service": "orders"},
        {"name": "50%_OFF", "service": "shop"},
    ],
    ids=str,
)
def test_lists_are_those_of_the_trace_file(filled: Filled, wanted: dict[str, Any]) -> None:
    options = dict(wanted)
    limit = options.pop("limit", 20)
    if "since" in options:
        options["since_ns"] = filled.start - options.pop("since") * 1200 * SECOND
    chosen = TraceFilter(**options)
    with DynamoDbStore(filled.table) as table, SqliteStore(filled.file) as file:
        assert table.newest(chosen, limit=limit) == file.newest(chosen, limit=limit)
        assert table.ids(chosen) == file.ids(chosen)


def test_a_trace_is_that_of_the_file(filled: Filled) -> None:
    with DynamoDbStore(filled.table) as table, SqliteStore(filled.file) as file:
        for trace_id in file.ids():
            found, wanted = table.get(trace_id), file.get(trace_id)
            assert sorted(found.spans, key=repr) == sorted(wanted.spans, key=repr)
            assert summarise(found) == summarise(wanted)
        assert table.get("1-00000003-000000000000000000000000").root is not None
        assert table.get("0000000c").trace_id == f"{12 << 96:032x}"
        with pytest.raises(UnknownTraceError):
            table.get("f" * 32)
        with pytest.raises(UnknownTraceError, match="among the newest ones"):
            table.get("00ff")
        with pytest.raises(UnknownTraceError):
            table.get("not hex")
        with pytest.raises(AmbiguousTraceError):
            table.get("0000000")


def test_a_long_trace_comes_in_pages(server: Server) -> None:
    table = server.table("pages")
    chance = random.Random(8)
    noise = "".join(chance.choices(string.printable, k=30_000))
    spans = [make_span(span_id=number, attributes={"text": noise[number:]}) for number in range(1, 81)]
    with fault_proxy(server.url) as proxy:
        assert sent(exporter_to(proxy.url, table), spans) == 0
        with endpoint(proxy.url), DynamoDbStore(table) as store:
            assert len(store.get(f"{1:032x}").spans) == 80
        assert proxy.operations["Query"] > 2  # 1 MB a page


def test_a_batch_with_too_many_ids_is_asked_for_its_spans(server: Server) -> None:
    table = server.table("many-ids")
    spans = [make_span(span_id=number, parent=number - 1 if number > 1 else None) for number in range(1, 2103)]
    spans.append(make_span(span_id=5000, parent=4000))
    assert sent(exporter_to(server.url, table), spans) == 0
    with DynamoDbStore(table) as store:
        (summary,) = store.newest()
    assert (summary.spans, summary.orphans) == (2103, 1)


def test_what_has_expired_is_not_seen(server: Server) -> None:
    table = server.table("expired")
    long_ago = time.time() - 31 * DAY
    exporter = exporter_to(server.url, table, now=lambda: long_ago)
    assert sent(exporter, [make_span(trace_id=1, span_id=1)]) == 0
    assert (
        sent(exporter_to(server.url, table), [make_span(trace_id=2, span_id=1), make_span(trace_id=2, span_id=2)])
        == 0
    )
    with DynamoDbStore(table) as store:
        assert [each.trace_id for each in store.newest()] == [f"{2:032x}"]
        assert store.ids() == [f"{2:032x}"]
        with pytest.raises(UnknownTraceError):
            store.get(f"{1:032x}")
    with DynamoDbStore(table, now=lambda: long_ago) as store:
        assert len(store.newest()) == 2
