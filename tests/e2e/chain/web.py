"""The start of the chain: takes orders over HTTP and queues them; `/relay` works through a queue inside a request.

Environment: CHAIN_ORDERS and CHAIN_LAST, URLs of queues, and what boto3 reads.
"""

import json
import os
import signal
import sys

import boto3
from flask import Flask, jsonify, request
from werkzeug.serving import make_server

app = Flask(__name__)
sqs = boto3.client("sqs")


@app.post("/orders")
def order():
    given = request.get_json()
    attributes = {f"own{number}": {"DataType": "Number", "StringValue": "1"} for number in range(given["attributes"])}
    sqs.send_message(
        QueueUrl=os.environ["CHAIN_ORDERS"],
        MessageBody=json.dumps({"order": given["order"], "attributes": given["attributes"]}),
        MessageAttributes=attributes,
    )
    return jsonify(order=given["order"]), 202


@app.post("/relay")
def relay():
    queue = os.environ["CHAIN_ORDERS"]
    answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    for message in answer["Messages"]:
        sqs.send_message(QueueUrl=os.environ["CHAIN_LAST"], MessageBody=message["Body"])
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return jsonify(relayed=len(answer["Messages"]))


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
