"""The worker: takes orders from the queue, charges the customer and writes the outcome to DynamoDB.

Environment: SHOP_TABLE, SHOP_QUEUE_URL, and what boto3 reads.
"""

import json
import logging
import os
import signal
import sys
import time

import boto3

logger = logging.getLogger("worker")
dynamodb = boto3.client("dynamodb")
sqs = boto3.client("sqs")


class PaymentDeclinedError(Exception):
    pass


def charge(total: int) -> None:
    time.sleep(0.02)  # the bank
    if total > 5000:
        raise PaymentDeclinedError(f"the bank declined {total}")


def settle(order: dict) -> None:
    try:
        charge(order["total"])
        state = "paid"
    except PaymentDeclinedError:
        logger.exception("order %s", order["id"])
        state = "declined"
    dynamodb.update_item(
        TableName=os.environ["SHOP_TABLE"],
        Key={"id": {"S": order["id"]}},
        UpdateExpression="SET #state = :state",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={":state": {"S": state}},
    )


def work(queue_url: str) -> None:
    answer = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
    for message in answer.get("Messages", []):
        settle(json.loads(message["Body"]))
        sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("polling", flush=True)
    while True:
        work(os.environ["SHOP_QUEUE_URL"])


if __name__ == "__main__":
    main()
