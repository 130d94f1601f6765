"""Behind the queue: stores each order once; an order that failed comes back, the others of its batch do not."""

import json
import os

import boto3

table = boto3.resource("dynamodb").Table(os.environ["TABLE"])


def handler(event, context):
    failed = []
    for record in event["Records"]:
        try:
            store(json.loads(record["body"]))
        except Exception as error:
            print(f"order of message {record['messageId']}: {type(error).__name__}: {error}")
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def store(order):
    table.put_item(Item={"id": order["id"], "amount": order["amount"], "state": "accepted"})
