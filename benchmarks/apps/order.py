"""The measured application: one route that makes one HTTP call and one DynamoDB GetItem. No tracing code."""

import os

import boto3
import flask
import requests
import xray

STUB = os.environ["BENCH_STUB"]


def create_app():
    """A Flask application with its DynamoDB client."""
    app = flask.Flask("order")
    dynamodb = boto3.client("dynamodb", endpoint_url=STUB, region_name="eu-west-1")

    @app.get("/orders/<ident>")
    def order(ident):
        price = requests.get(f"{STUB}/price", timeout=5).json()
        item = dynamodb.get_item(TableName="items", Key={"id": {"S": ident}})["Item"]
        return {"price": price["price"], "name": item["name"]["S"]}

    xray.install(app)
    return app
