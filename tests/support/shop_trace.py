"""One request of a shop with everything that a filter can ask for."""

from __future__ import annotations

from typing import Any

from spanwell.explore.model import Trace
from spanwell.record import EventRecord, SpanRecord
from support.spans import record

SECOND = 1_000_000_000
TABLE = {"rpc.system": "aws-api", "rpc.service": "DynamoDB", "rpc.method": "GetItem"}
HOST = {
    "service.name": "orders",
    "cloud.platform": "aws_ec2",
    "cloud.availability_zone": "eu-west-1a",
    "host.id": "i-012",
    "aws.ecs.task.arn": "arn:aws:ecs:eu-west-1:1:task/a",
}
BROKEN = EventRecord("exception", 0, {"exception.type": "shop.errors.Declined", "exception.message": 'no "money"'})


def told(
    span_id: str, parent: str | None = None, service: str = "web", kind: str = "server", **more: Any
) -> SpanRecord:
    more.setdefault("duration", SECOND)
    return record(span_id, parent, service=service, kind=kind, **more)


def shop() -> Trace:
    """web answers 200 in 1 s although orders (0.8 s) failed, for its call of a peer without spans was declined; a
    message is handled later; the table refused for its rate.
    """
    root = {
        "http.request.method": "POST", "url.scheme": "https", "server.address": "shop.example", "server.port": 8443,
        "url.path": "/v2/orders/12", "http.response.status_code": 200, "user_agent.original": "curl/8",
        "client.address": "203.0.113.9",
    }  # fmt: skip
    return Trace("1", [
        told("1", attributes=root, name="POST /orders"),
        told("2", "1", kind="client", duration=SECOND * 9 // 10, attributes={"http.response.status_code": 500}),
        told("3", "2", "orders", duration=SECOND * 8 // 10, status="error", name="place", resource=HOST,
             attributes={"http.response.status_code": 500, "enduser.id": "alice", "order.id": 12, "vip": False,
                         "tags": ["new", "big"], "tier": "gold"}),
        told("4", "3", "orders", "client", duration=SECOND // 2, status="error", events=(BROKEN,), resource=HOST,
             attributes={"http.request.method": "POST", "server.address": "pay.example"}),
        told("5", "3", "orders", "client", duration=SECOND // 10, status="error", resource=HOST,
             attributes={**TABLE, "error.type": "ThrottlingException", "aws.remote.resource.identifier": "orders-t",
                         "aws.remote.resource.type": "AWS::DynamoDB::Table"}),
        told("6", "3", "orders", "producer", duration=SECOND // 10, resource=HOST,
             attributes={"messaging.system": "aws_sqs", "messaging.destination.name": "mails"}),
        told("7", "6", "mailer", "consumer", start=4 * SECOND, attributes={"http.response.status_code": 404}),
    ])  # fmt: skip
