"""The table of the `dynamodb` destination, once: written by the exporter, read by `--store dynamodb:TABLE`.

| item | `trace_id` (hash key) | `sk` (sort key) | what it holds |
| --- | --- | --- | --- |
| span | trace id | `SPAN#<start>#<span id>` | `service`, `name`, `data`: JSON, or JSON compressed by zlib |
| partial summary | trace id | `SUM#<service>#<process>#<batch>` | what one process sent of a trace in one batch |
| final summary | trace id | `SUM!final` | written once, when the trace is idle |
| hour of a service | `#services` | `<hour>#<service>` | that the index has summaries of it |
| resource | `#resource#<id>` | `RESOURCE` | a resource's attributes, which its spans name |

Partial summaries alone stand in the index `by_start`: hash key `bucket` = `<service>#<hour>#<shard>`, sort key
`start_ns`. Every item has `expires_at`, in epoch seconds. Pure: items are DynamoDB's typed JSON.
"""

from __future__ import annotations

import json
import time

from spanwell.schema import SPAN_COLUMNS
from spanwell.values import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    Row = tuple[Any, ...]
    Item = dict[str, dict[str, Any]]

KEY, SORT, INDEX, BUCKET, START, EXPIRES = "trace_id", "sk", "by_start", "bucket", "start_ns", "expires_at"
SPAN, SUMMARY, FINAL = "SPAN#", "SUM#", "SUM!final"
ANY_SUMMARY = "SUM"
SERVICES, RESOURCE, ONLY = "#services", "#resource#", "RESOURCE"
SHARDS = 4
"""Partitions that one service's summaries of one hour spread over: each takes 1,000 write units a second."""

MAX_ITEM = 400_000
"""Bytes of an item, of DynamoDB's 409,600."""

_ONE_UNIT = 1024
_KEYS = 190  # bytes of the keys and of the names of a span's attributes
_WORTH_LOOKING_AT = 2048
_MAX_KEY = 160
_MAX_SHOWN = 255
_MAX_IDS = 2000
_LAST_START = 253_402_300_799  # the last second of the year 9999
_AT = {name: position for position, name in enumerate(SPAN_COLUMNS)}
_TREES = ("attributes", "events", "links")
_PLAIN = tuple(
    name for name in SPAN_COLUMNS if name not in ("trace_id", "span_id", "name", "service", "start_ns", *_TREES)
)
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def text_of(value: str) -> dict[str, str]:
    """A text attribute."""
    return {"S": value}


def number_of(value: int) -> dict[str, str]:
    """A number attribute."""
    return {"N": str(value)}


def key_of(item: Item) -> tuple[str, str]:
    """What is unique in the table."""
    return item[KEY]["S"], item[SORT]["S"]


def size_of(item: Item) -> int:
    """The bytes that DynamoDB counts for `item`, or a few more."""
    return sum(len(name) + _size(value) for name, value in item.items())


def _size(value: dict[str, Any]) -> int:
    kind, content = next(iter(value.items()))
    if kind == "S" and not content.isascii():
        return len(content.encode())
    return len(content)


_NAME = "[A-Za-z0-9_.-]{3,255}"
_ARN = rf"arn:[a-z0-9-]+:dynamodb:([a-z0-9-]+):\d{{12}}:table/{_NAME}"


def check_table(table: str) -> str:
    """The region that `table` names, if it is an ARN, else "". Raises ValueError for what is neither name nor ARN."""
    import re

    arn = re.fullmatch(_ARN, table)
    if arn is None and not re.fullmatch(_NAME, table):
        raise ValueError(
            f"{table[:80]!r} is no table: give a name of 3 to 255 letters, digits, _ . and -, or a table's ARN"
        )
    return arn[1] if arn else ""


# --- spans ------------------------------------------------------------------------------------------------------


def span_item(row: Row, expires: int) -> Item | None:
    """The item of a row of `schema.SPAN_COLUMNS`, cut until it fits; None if it never does.

    It is compressed from 1 KB on, where a further write unit begins. Large attributes are cut first, then events,
    links and attributes go.
    """
    item = _span_item(row, expires)
    if _fits(item):
        return item
    for shorter in _shorter(row):
        item = _span_item(shorter, expires)
        if _fits(item):
            return item
    return None


def weight_of(item: Item) -> int:
    """About the size of `item`, at once: a quarter of it where the text is not ASCII."""
    return _KEYS + len(next(iter(item["data"].values()))) if "data" in item else _KEYS


def _fits(item: Item) -> bool:
    return weight_of(item) < MAX_ITEM // 5 or size_of(item) <= MAX_ITEM


def _span_item(row: Row, expires: int) -> Item:
    name, service = row[_AT["name"]], row[_AT["service"]]
    item: Item = {
        KEY: text_of(row[_AT["trace_id"]]),
        SORT: text_of(f"{SPAN}{row[_AT['start_ns']]:019d}#{row[_AT['span_id']]}"),
        "service": text_of(service[:_MAX_SHOWN]),
        "name": text_of(name[:_MAX_SHOWN] or " "),
        EXPIRES: number_of(expires),
    }
    data = _data(row)
    item["data"] = text_of(data)
    if _KEYS + len(data) + len(name) + len(service) > _ONE_UNIT or not data.isascii():
        import zlib

        encoded = data.encode()
        packed = zlib.compress(encoded, 6) if size_of(item) > _ONE_UNIT else encoded
        if len(packed) < len(encoded):
            item["data"] = {"B": packed}
    return item


def _data(row: Row) -> str:
    """What the other attributes do not say, as one JSON object; what is missing is None, empty or 0."""
    head: dict[str, Any] = {name: row[_AT[name]] for name in _PLAIN if row[_AT[name]]}
    for name in ("name", "service"):
        if not 0 < len(row[_AT[name]]) <= _MAX_SHOWN:
            head[name] = row[_AT[name]]
    parts = [_encode(head)[:-1]]
    parts += [f',"{name}":{row[_AT[name]]}' for name in _TREES if row[_AT[name]]]
    return "".join(parts) + "}"


def _shorter(row: Row) -> Iterator[Row]:
    fields = dict(zip(SPAN_COLUMNS, row, strict=True))
    if fields["attributes"]:
        fields["attributes"] = _encode({key: _cut(value) for key, value in json.loads(fields["attributes"]).items()})
        yield tuple(fields.values())
    for tree, dropped in (
        ("events", "dropped_events"),
        ("links", "dropped_links"),
        ("attributes", "dropped_attributes"),
    ):
        if fields[tree]:
            fields[dropped] += len(json.loads(fields[tree]))
            fields[tree] = None
            yield tuple(fields.values())


def _cut(value: Any) -> Any:
    """`value`, or what is left of it if it is large."""
    if isinstance(value, str):
        missing = len(value) - _WORTH_LOOKING_AT
        return f"{value[:_WORTH_LOOKING_AT]}…[+{missing} characters]" if missing > 0 else value
    if isinstance(value, (dict, list)) and len(_encode(value)) > _WORTH_LOOKING_AT:
        return {"$cut": type(value).__name__}
    return value


def span_row(item: Mapping[str, Any]) -> Row:
    """The row that `span_item` was given. Raises for an item that it did not make."""
    data = item["data"]
    if "B" in data:
        import zlib

        encoded = zlib.decompress(bytes(data["B"])).decode()
    else:
        encoded = data["S"]
    found = json.loads(encoded)
    _, start, span_id = item[SORT]["S"].split("#")
    found = {
        "service": item["service"]["S"],
        "name": item["name"]["S"],
        **found,
        "trace_id": item[KEY]["S"],
        "span_id": span_id,
        "start_ns": int(start),
    }
    for name in _TREES:
        if name in found:
            found[name] = _encode(found[name])
    return tuple(found.get(name, _ABSENT.get(name)) for name in SPAN_COLUMNS)


_ABSENT = dict.fromkeys(("end_ns", "flags", "dropped_attributes", "dropped_events", "dropped_links"), 0)


# --- what is beside the spans -----------------------------------------------------------------------------------


def hour_of(time_ns: int) -> str:
    """`2026-11-20T09`, UTC: the hour of a time in Unix nanoseconds."""
    return time.strftime("%Y-%m-%dT%H", time.gmtime(min(max(0, time_ns // 10**9), _LAST_START)))


def short(service: str) -> str:
    """A service's name as it stands in keys, which have a limit: a long one ends with a hash of it."""
    if len(service) <= _MAX_KEY:
        return service
    from hashlib import blake2b

    return f"{service[:_MAX_KEY]}…{blake2b(service.encode(), digest_size=8).hexdigest()}"


def bucket_of(service: str, hour: str, shard: int) -> str:
    """The hash key in the index."""
    return f"{short(service)}#{hour}#{shard}"


def service_item(service: str, hour: str, expires: int) -> Item:
    """That the index has summaries of `service` in `hour`."""
    return {
        KEY: text_of(SERVICES),
        SORT: text_of(f"{hour}#{short(service)}"),
        "service": text_of(short(service)),
        "shards": number_of(SHARDS),
        EXPIRES: number_of(expires),
    }


def resource_item(resource_id: str, body: str, expires: int) -> Item:
    """A resource's attributes (JSON). One that fits in no item is cut to nothing."""
    item: Item = {
        KEY: text_of(RESOURCE + resource_id),
        SORT: text_of(ONLY),
        "data": text_of(body),
        EXPIRES: number_of(expires),
    }
    if size_of(item) > MAX_ITEM:
        short = {key: _cut(value) for key, value in json.loads(body).items()}
        item["data"] = text_of(_encode(short))
        if size_of(item) > MAX_ITEM:
            item["data"] = text_of('{"$cut":"resource"}')
    return item


def resource_attributes(item: Mapping[str, Any]) -> dict[str, Any]:
    """What `resource_item` was given."""
    return loads(item["data"]["S"])


def summary_items(rows: list[Row], *, process: str, batch: int, expires: int, now_ms: int) -> list[Item]:
    """The partial summaries of what one batch stored: one for each trace and service."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row[_AT["trace_id"]], row[_AT["service"]]), []).append(row)
    return [_summary(*key, group, process, batch, expires, now_ms) for key, group in groups.items()]


def _summary(
    trace_id: str, service: str, rows: list[Row], process: str, batch: int, expires: int, now_ms: int
) -> Item:
    start = min(row[_AT["start_ns"]] for row in rows)
    item: Item = {
        KEY: text_of(trace_id),
        SORT: text_of(f"{SUMMARY}{short(service)}#{process}#{batch:08d}"),
        BUCKET: text_of(bucket_of(service, hour_of(start), int(trace_id[-4:], 16) % SHARDS)),
        START: number_of(start),
        "end_ns": number_of(max(row[_AT["end_ns"]] for row in rows)),
        "service": text_of(service),
        "spans": number_of(len(rows)),
        "errors": number_of(sum(row[_AT["status"]] == "error" for row in rows)),
        "written_ms": number_of(now_ms),
        EXPIRES: number_of(expires),
    }
    roots = [row for row in rows if row[_AT["parent_id"]] is None]
    if roots:
        root = min(roots, key=lambda row: int(row[_AT["start_ns"]]))
        item["root_ns"] = number_of(root[_AT["start_ns"]])
        item["root_name"] = text_of(root[_AT["name"]][:_WORTH_LOOKING_AT])
    if len(rows) <= _MAX_IDS:
        own = {row[_AT["span_id"]] for row in rows}
        parents = [row[_AT["parent_id"]] for row in rows if row[_AT["parent_id"]] not in own | {None}]
        item["ids"] = {"B": bytes.fromhex("".join(sorted(own)))}
        if parents:
            item["parents"] = {"B": bytes.fromhex("".join(parents))}
    return item
