"""The orders service: checks an order, writes it to DynamoDB and queues it for the worker.

Environment: SHOP_TABLE, SHOP_QUEUE_URL, SHOP_PORT (0 picks a free port), and what boto3 reads.
"""

import json
import os
import signal
import socket
import sys
import time
import uuid

import boto3
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

app = FastAPI(title="orders")
dynamodb = boto3.client("dynamodb")
sqs = boto3.client("sqs")

PRICES = {"tea": 3, "coffee": 4, "cake": 5, "ice cream": 6, "piano": 4800}


class Order(BaseModel):
    article: str
    quantity: int = Field(ge=1, le=100)


def check_stock(order: Order) -> None:
    if order.article == "piano":
        time.sleep(0.4)  # somebody has to go and look in the warehouse
    if order.article == "ice cream":
        raise RuntimeError("the freezer does not answer")


@app.post("/orders", status_code=201)
def place(order: Order) -> dict[str, str]:
    if order.article not in PRICES:
        raise HTTPException(404, f"we do not sell {order.article}")
    check_stock(order)
    order_id = uuid.uuid4().hex
    total = PRICES[order.article] * order.quantity
    dynamodb.put_item(
        TableName=os.environ["SHOP_TABLE"],
        Item={
            "id": {"S": order_id},
            "article": {"S": order.article},
            "total": {"N": str(total)},
            "state": {"S": "new"},
        },
    )
    sqs.send_message(QueueUrl=os.environ["SHOP_QUEUE_URL"], MessageBody=json.dumps({"id": order_id, "total": total}))
    return {"id": order_id, "state": "new"}


def main() -> None:
    # uvicorn shuts down in order and then raises the signal again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    listener = socket.socket()
    listener.bind(("127.0.0.1", int(os.environ.get("SHOP_PORT", "0"))))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
