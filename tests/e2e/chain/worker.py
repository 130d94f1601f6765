"""The middle of the chain: `worker.py billing|stock|mail NUMBER` hands on the next NUMBER messages of its queue.

Environment: CHAIN_ORDERS, CHAIN_BILLED, CHAIN_PACKED and CHAIN_LAST, URLs of queues, CHAIN_TOPIC, an ARN, and what
boto3 reads.
"""

import json
import os
import sys

import boto3

sqs = boto3.client("sqs")
sns = boto3.client("sns")
events = boto3.client("events")


def billing(body):
    """A message of the front end: published to the topic, with as many attributes as it came with."""
    number = json.loads(body)["attributes"]
    attributes = {f"own{each}": {"DataType": "Number", "StringValue": "1"} for each in range(number)}
    sns.publish(TopicArn=os.environ["CHAIN_TOPIC"], Message=body, MessageAttributes=attributes)


def stock(body):
    """A notification of the topic: an event."""
    detail = json.loads(body)["Message"]
    events.put_events(Entries=[{"Source": "chain.stock", "DetailType": "packed", "Detail": detail}])


def mail(body):
    """An event, delivered to a queue: a message to the function."""
    order = json.loads(body)["detail"]["order"]
    sqs.send_message(QueueUrl=os.environ["CHAIN_LAST"], MessageBody=json.dumps({"order": order}))


STAGES = {"billing": ("CHAIN_ORDERS", billing), "stock": ("CHAIN_BILLED", stock), "mail": ("CHAIN_PACKED", mail)}


def main():
    variable, handle = STAGES[sys.argv[1]]
    queue = os.environ[variable]
    left = int(sys.argv[2])
    while left > 0:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", []):
            handle(message["Body"])
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            left -= 1


if __name__ == "__main__":
    main()
