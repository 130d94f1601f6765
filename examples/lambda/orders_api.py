"""Behind a function URL or an HTTP API: takes an order, hands it to the queue. Plain boto3, nothing of tracing."""

import json
import os
from base64 import b64decode

import boto3

queue = boto3.client("sqs")


def handler(event, context):
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        body = b64decode(body)
    try:
        order = json.loads(body)
        order_id, amount = str(order["id"]), int(order["amount"])
    except (ValueError, KeyError, TypeError):
        return answer(400, {"error": "an order is a JSON object with id and amount"})
    message = json.dumps({"id": order_id, "amount": amount})
    sent = queue.send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=message)
    return answer(202, {"id": order_id, "message": sent["MessageId"]})


def answer(status, body):
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
