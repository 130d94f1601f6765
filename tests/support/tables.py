"""DynamoDB for tests: a table in memory with the limits of BatchWriteItem, and how tests read a real one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from spanwell.export.dynamodb_layout import SPAN, key_of, size_of

Item = dict[str, dict[str, Any]]


def refusal(code: str, status: int = 400) -> ClientError:
    """An error as botocore raises it."""
    answer: Any = {"Error": {"Code": code, "Message": "refused"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "BatchWriteItem")


class MemoryTable:
    """Takes the place of botocore's client: `plan(number, items)` raises, or returns how many stay unprocessed.

    `calls` are the sizes of the requests, `items` what is there.
    """

    def __init__(self, plan: Callable[[int, list[Item]], int] = lambda _number, _items: 0) -> None:
        self.plan = plan
        self.items: dict[tuple[str, str], Item] = {}
        self.calls: list[int] = []
        self.meta = SimpleNamespace(region_name="eu-west-1")

    def batch_write_item(self, RequestItems: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
        ((table, requests),) = RequestItems.items()
        items = [request["PutRequest"]["Item"] for request in requests]
        self.calls.append(len(items))
        keys = [key_of(item) for item in items]
        if not 0 < len(items) <= 25 or len(set(keys)) < len(keys) or max(map(size_of, items)) > 409_600:
            raise refusal("ValidationException")
        left = self.plan(len(self.calls), items)
        for item in items[left:]:
            self.items[key_of(item)] = item
        return {"UnprocessedItems": {table: requests[:left]} if left else {}}


@contextmanager
def endpoint(url: str) -> Any:
    """AWS_ENDPOINT_URL_DYNAMODB for the block."""
    before = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB")
    os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = url
    try:
        yield
    finally:
        if before is None:
            del os.environ["AWS_ENDPOINT_URL_DYNAMODB"]
        else:
            os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = before


def scan(client: Any, table: str) -> list[Item]:
    """Every item of a real table."""
    pages = client.get_paginator("scan").paginate(TableName=table)
    return [item for page in pages for item in page["Items"]]


def span_ids(items: list[Item]) -> Counter[str]:
    """How often each span id is stored."""
    return Counter(item["sk"]["S"].split("#")[2] for item in items if item["sk"]["S"].startswith(SPAN))
