"""A handler that knows only boto3: import, make a client, one GetItem."""

import os

import boto3
import xray

dynamodb = boto3.client("dynamodb", endpoint_url=os.environ["BENCH_STUB"], region_name="eu-west-1")


def handler(event, context):
    """Read one item."""
    return dynamodb.get_item(TableName="items", Key={"id": {"S": event["id"]}})["Item"]


if xray.install():
    from aws_xray_sdk.core import xray_recorder

    with xray_recorder.in_segment("handler"):
        handler({"id": "7"}, None)
else:
    handler({"id": "7"}, None)
