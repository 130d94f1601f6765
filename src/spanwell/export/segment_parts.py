"""Blocks of a segment document: the AWS call, the SQL query, links, annotations and metadata of a span."""

from __future__ import annotations

import json

from spanwell.export.segment_names import annotation_key, host_of
from spanwell.export.segment_values import MAX_STRING, MAX_VALUE, cut, plain, said, short, whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

LISTED = "aws.xray.annotations"
RESOURCE = "otel.resource."
MAX_ANNOTATIONS = 50
_MAX_ANNOTATION = 1000
_MAX_LINKS = 128
_BIG = 2**63
_SPACE = "aws.xray.metadata."

# Attribute -> X-Ray's field
_CALL = {
    "aws.region": "region",
    "cloud.region": "region",
    "aws.account_id": "account_id",
    "cloud.account.id": "account_id",
    "aws.request_id": "request_id",
    "aws.requestId": "request_id",
    "aws.request.id": "request_id",
    "messaging.url": "queue_url",
    "aws.queue_url": "queue_url",
    "aws.queue.url": "queue_url",
    "aws.sqs.queue.url": "queue_url",
    "aws.s3.bucket": "bucket_name",
    "aws.bucket.name": "bucket_name",
    "aws.s3.key": "key",
    "aws.sns.topic.arn": "topic_arn",
    "aws.kinesis.stream_name": "stream_name",
    "aws.kinesis.stream.name": "stream_name",
    "aws.stream.name": "stream_name",
    "aws.lambda.function.name": "function_name",
    "faas.invoked_name": "function_name",
}
_TABLES = ("aws.dynamodb.table_names", "aws.table_name", "aws.table.name")
_RETRIES = ("retry_attempts", "aws.xray.retries")
_SQL = frozenset(
    (
        *("db2", "derby", "hive", "mariadb", "mssql", "mysql", "oracle", "postgresql", "sqlite", "teradata"),
        *("other_sql", "cockroachdb", "redshift", "aws.redshift", "microsoft.sql_server", "oracle.db", "ibm.db2"),
        *("clickhouse", "firebird", "firebirdsql", "h2", "h2database", "hsqldb", "mysqlx", "saphana", "sap.hana"),
        *("softwareag.adabas", "sybase", "trino", "vertica", "gcp.spanner", "actian.ingres", "ibm.informix"),
    )
)


def aws_call(attributes: Mapping[str, Any]) -> tuple[str, str] | None:
    """(service, operation) of a span of an AWS SDK, in the old or the new conventions; None for any other."""
    if attributes.get("rpc.system") != "aws-api" and attributes.get("rpc.system.name") != "aws-api":
        return None
    service, operation = attributes.get("rpc.service"), attributes.get("rpc.method")
    operation = operation if operation.__class__ is str else ""
    if service.__class__ is not str:  # new: `DynamoDB/GetItem`
        service, _, operation = operation.rpartition("/")
    return said(service), operation


def aws_block(attributes: dict[str, Any], call: tuple[str, str] | None) -> dict[str, Any]:
    """`aws` of a call to AWS; empty for any other span. What is said in full there leaves `attributes`."""
    if call is None and "aws.operation" not in attributes and "aws.service" not in attributes:
        return {}
    block: dict[str, Any] = {}
    operation = attributes.pop("aws.operation", None) or (call[1] if call else "")
    if operation:
        block["operation"] = short(operation)
        if attributes.get("rpc.method") == operation:
            del attributes["rpc.method"]
    for key in [key for key in attributes if key in _CALL]:
        value = attributes[key]
        if value is not None:
            block.setdefault(_CALL[key], short(value))
        _forget(attributes, key)
    for key in _RETRIES:
        number = whole_number(attributes[key]) if key in attributes else None
        if number is not None:
            block["retries"] = number
            del attributes[key]
    _tables(attributes, block)
    _names(attributes, block)
    return block


def _tables(attributes: dict[str, Any], block: dict[str, Any]) -> None:
    for key in _TABLES:
        value = attributes.get(key)
        if value is None:
            continue
        listed = [short(each) for each in value] if isinstance(value, (list, tuple)) else [short(value)]
        if len(listed) == 1:
            block.setdefault("table_name", listed[0])
        elif listed and "table_name" not in block:
            block.setdefault("table_names", listed[:50])
        attributes.pop(key)


def _names(attributes: dict[str, Any], block: dict[str, Any]) -> None:
    """`resource_names`, by which X-Ray tells one resource of a service from another."""
    told = attributes.get("aws.xray.resource_names")
    if isinstance(told, (list, tuple)):
        attributes.pop("aws.xray.resource_names")
        block["resource_names"] = [short(each) for each in told[:50]]
        return
    named = attributes.get("aws.remote.resource.identifier") or block.get("bucket_name") or block.get("stream_name")
    if named:
        block["resource_names"] = [short(named)]


def sql_block(attributes: dict[str, Any]) -> dict[str, Any] | None:
    """`sql` of a query; None for any other span. What is said in full there leaves `attributes`."""
    system = attributes.get("db.system.name") or attributes.get("db.system")
    if not isinstance(system, str) or system not in _SQL:
        return None
    block: dict[str, Any] = {"database_type": short(system)}
    url = _database_url(system, attributes)
    if url:
        block["url"] = short(url)
    for field, keys in (("user", ("db.user",)), ("sanitized_query", ("db.query.text", "db.statement"))):
        for key in keys:
            if key in attributes:
                if attributes[key]:
                    block.setdefault(field, short(attributes[key]))
                _forget(attributes, key)
    attributes.pop("db.system.name", None)
    attributes.pop("db.system", None)
    return block


def _database_url(system: str, attributes: dict[str, Any]) -> str:
    """Where the database is, without credentials."""
    told = attributes.get("db.connection_string")
    if isinstance(told, str) and host_of(told.removeprefix("jdbc:")):
        scheme, _, rest = told.partition("://")
        authority, slash, path = rest.partition("?")[0].partition("/")
        attributes.pop("db.connection_string")
        return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path.partition(';')[0]}"
    get = attributes.get
    host = said(get("server.address")) or said(get("net.peer.name"))
    port = said(get("server.port")) or said(get("net.peer.port"))
    database = said(get("db.namespace")) or said(get("db.name"))
    if not host:
        return f"{system}:{database}" if database else ""
    return f"{system}://{host}{f':{port}' if port else ''}/{database}"


def links_of(links: Iterable[Any]) -> list[dict[str, Any]]:
    """`links` of a span."""
    made = []
    for link in list(links)[:_MAX_LINKS]:
        context = link.context
        one: dict[str, Any] = {"trace_id": trace_id(context.trace_id), "id": f"{context.span_id:016x}"}
        if link.attributes:
            one["attributes"] = {short(key): plain(value) for key, value in link.attributes.items()}
        made.append(one)
    return made


def trace_id(number: int) -> str:
    """A trace id in X-Ray's form."""
    shown = f"{number:032x}"
    return f"1-{shown[:8]}-{shown[8:]}"


def listed_keys(attributes: dict[str, Any]) -> list[str]:
    """The keys that are to be indexed; the list leaves `attributes`."""
    found = attributes.pop(LISTED, None)
    if found is None:
        return []
    if isinstance(found, str):
        found = [part.strip() for part in found.split(",")]
    return [key for key in found if isinstance(key, str) and key] if isinstance(found, (list, tuple)) else []


def annotate(keys: Iterable[str], told: Mapping[str, Any], rest: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`annotations` out of `told`; what they say in full leaves `rest`. Lists and maps cannot be indexed."""
    made: dict[str, Any] = {}
    for key in keys:
        value = told.get(key)
        if not isinstance(value, (str, bool, int, float)) or len(made) >= MAX_ANNOTATIONS:
            continue
        value = plain(value)
        if isinstance(value, str) and len(value) > _MAX_ANNOTATION:
            value = cut(value, _MAX_ANNOTATION)
        else:
            rest.pop(key, None)
        made[annotation_key(prefix + key)] = value
    return made


def metadata(rest: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(values of the namespace `default`, other namespaces) out of the attributes that are left."""
    default: dict[str, Any] = {}
    spaces: dict[str, Any] = {}
    for key, value in rest.items():
        kind = value.__class__
        if kind is str:
            if key.startswith(_SPACE) and _space(key.removeprefix(_SPACE), value, default, spaces):
                continue
            default[key] = value if len(value) <= MAX_VALUE else cut(value, MAX_VALUE)
        elif kind is int:
            default[key] = value if -_BIG <= value < _BIG else plain(value)
        elif kind is bool or kind is float:
            default[key] = value
        elif value is not None:
            default[key] = plain(value)
    return default, spaces


def _space(name: str, value: str, default: dict[str, Any], spaces: dict[str, Any]) -> bool:
    """A namespace that an X-Ray SDK wrote as JSON, and a collector's receiver put into an attribute."""
    try:
        found = json.loads(value) if len(value) <= MAX_VALUE else None
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict):
        return False
    if name.lower() == "default":
        default.update(found)
    else:
        spaces[cut(name, MAX_STRING)] = found
    return True


def other_events(events: Sequence[Any]) -> list[dict[str, Any]]:
    """The events of a span that are no exceptions."""
    made = []
    for event in events:
        if event.name == "exception":
            continue
        one: dict[str, Any] = {"name": short(event.name), "time": (event.timestamp or 0) / 1e9}
        if event.attributes:
            one["attributes"] = plain(dict(event.attributes))
        made.append(one)
    return made


def _forget(attributes: dict[str, Any], key: str) -> None:
    value = attributes.get(key)
    if value.__class__ is not str or len(value) <= MAX_STRING:
        attributes.pop(key, None)
