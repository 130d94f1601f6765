"""The table of the `dynamodb` exporter: as CreateTable and as a CloudFormation template, and making it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from spanwell.export import dynamodb_layout as layout
from spanwell.export.aws_client import error_code

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_TYPES = {layout.KEY: "S", layout.SORT: "S", layout.BUCKET: "S", layout.START: "N"}
_EVERY, _WAIT = 2, 300
_THERE = "ResourceInUseException"


class WrongTable(Exception):
    """A table of that name is there, but it is another one's; one line."""


def _keys(hash_key: str, range_key: str) -> list[dict[str, str]]:
    return [{"AttributeName": hash_key, "KeyType": "HASH"}, {"AttributeName": range_key, "KeyType": "RANGE"}]


def definition(table: str) -> dict[str, Any]:
    """The arguments of CreateTable; CloudFormation's properties have the same names."""
    return {
        "TableName": table,
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in _TYPES.items()],
        "KeySchema": _keys(layout.KEY, layout.SORT),
        "BillingMode": "PAY_PER_REQUEST",
        "GlobalSecondaryIndexes": [
            {
                "IndexName": layout.INDEX,
                "KeySchema": _keys(layout.BUCKET, layout.START),
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": [layout.EXPIRES]},
            }
        ],
    }


def template(table: str, days: int) -> dict[str, Any]:
    """The same as CloudFormation."""
    properties = {
        **definition(table),
        "TimeToLiveSpecification": {"AttributeName": layout.EXPIRES, "Enabled": True},
        "SSESpecification": {"SSEEnabled": False},
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": False},
    }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Traces of spanwell: OTEL_TRACES_EXPORTER=dynamodb",
        "Resources": {
            "Traces": {
                "Type": "AWS::DynamoDB::Table",
                "DeletionPolicy": "Retain",
                "UpdateReplacePolicy": "Retain",
                "Properties": properties,
            }
        },
        "Outputs": {
            "TableArn": {"Value": {"Fn::GetAtt": ["Traces", "Arn"]}},
            "Environment": {"Value": environment(table, days)},
        },
    }


def environment(table: str, days: int) -> str:
    """The variables that a traced process needs."""
    return f"OTEL_TRACES_EXPORTER=dynamodb SPANWELL_DYNAMODB_TABLE={table} SPANWELL_RETENTION_DAYS={days}"


def make(client: Any, table: str, *, ttl: bool = True) -> Iterator[str]:
    """Make the table and wait for it; yields what was done, line by line. A table that is there stays as it is.

    Raises WrongTable, and what botocore raises.
    """
    region = client.meta.region_name
    try:
        client.create_table(**definition(table))
        made = True
    except Exception as error:
        if error_code(error) != _THERE:
            raise
        made = False
    client.get_waiter("table_exists").wait(
        TableName=table, WaiterConfig={"Delay": _EVERY, "MaxAttempts": _WAIT // _EVERY}
    )
    found = client.describe_table(TableName=table)["Table"]
    _check(found, table)
    yield f"{'made' if made else 'found'} table {table} in {region}: {found.get('TableArn', '')}".rstrip(": ")
    yield f"{'made' if made else 'found'} index {layout.INDEX}: {layout.BUCKET} (service#hour#shard), {layout.START}"
    if ttl:
        yield _expire(client, table)


def _check(found: dict[str, Any], table: str) -> None:
    wanted = definition(table)
    indexes = {each["IndexName"]: each["KeySchema"] for each in found.get("GlobalSecondaryIndexes", ())}
    index = wanted["GlobalSecondaryIndexes"][0]
    if _flat(found["KeySchema"]) != _flat(wanted["KeySchema"]):
        shown = json.dumps(_flat(found["KeySchema"]))
        raise WrongTable(f"table {table} is not one of spanwell's: its keys are {shown}; choose another --table")
    if _flat(indexes.get(layout.INDEX, [])) != _flat(index["KeySchema"]):
        raise WrongTable(f"table {table} has no index {layout.INDEX} as spanwell makes it; choose another --table")


def _flat(keys: list[dict[str, str]]) -> list[str]:
    return [each["AttributeName"] for each in sorted(keys, key=lambda each: each["KeyType"])]


def _expire(client: Any, table: str) -> str:
    try:
        client.update_time_to_live(
            TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": layout.EXPIRES}
        )
    except Exception as error:
        if error_code(error) != "ValidationException" or "already enabled" not in str(error):
            raise
        return f"found expiry: items go by {layout.EXPIRES}"
    return f"made expiry: items go by {layout.EXPIRES}"
