"""A handler that makes a boto3 client while it is imported, and one call in each invocation."""

import boto3

dynamodb = boto3.client("dynamodb")


def handler(event, context):
    """Read one item."""
    dynamodb.get_item(TableName="items", Key={"id": {"S": "7"}})
    return {"statusCode": 200}
