"""CPU of all span stages of spanwell on one span: `enrichment.py repeated|varied COUNT`.

Spans are made before the clock runs; what is timed is the processor's `on_start` and `on_end` alone.
"""

import json
import os
import sys
import time
from copy import copy

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

HTTP = {"http.request.method": "GET", "url.scheme": "https", "server.address": "shop.example.com", "server.port": 443}
AWS = {"rpc.system": "aws-api", "rpc.service": "DynamoDB", "rpc.method": "GetItem", "http.status_code": 200}


def shapes(n):
    return (
        (
            f"GET /orders/{n}",
            SpanKind.SERVER,
            {
                **HTTP,
                "url.path": f"/orders/{n}",
                "http.route": "/orders/<ident>",
                "network.protocol.version": "1.1",
                "client.address": "127.0.0.1",
                "user_agent.original": "bench/1.0",
                "http.response.status_code": 200,
            },
        ),
        (
            "GET",
            SpanKind.CLIENT,
            {**HTTP, "url.full": f"https://shop.example.com/price/{n}?page=2", "http.response.status_code": 200},
        ),
        (
            "SELECT shop",
            SpanKind.CLIENT,
            {
                "db.system.name": "postgresql",
                "db.namespace": "shop",
                "db.query.text": f"SELECT id, name FROM orders WHERE id = %s AND shop = {n}",
                "server.address": "db.example.com",
                "server.port": 5432,
            },
        ),
        (
            "DynamoDB.GetItem",
            SpanKind.CLIENT,
            {
                **AWS,
                "aws.dynamodb.table_names": ("orders",),
                "cloud.region": "eu-west-1",
                "aws.request_id": f"REQUEST{n}",
                "retry_attempts": 0,
                "server.address": "dynamodb.eu-west-1.amazonaws.com",
            },
        ),
    )


def stages():
    from spanwell.configurator import Wiring, make_sampler
    from spanwell.pipeline import processor
    from spanwell.settings import Settings

    chosen = {name: value for name, value in os.environ.items() if name.startswith("SPANWELL_")}
    settings = Settings.from_env({"OTEL_TRACES_EXPORTER": "none", **chosen})
    wiring = Wiring(settings)
    make_sampler(settings, wiring)
    return processor(settings, wiring)


def main(values, count):
    processor = stages()
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("bench")

    def ended(shape):
        name, kind, attributes = shape
        span = tracer.start_span(name, kind=kind, attributes=attributes)
        span.end()
        return span, span._readable_span()

    repeated = [ended(shape) for shape in shapes(7)]
    blocks = []
    for block in range(6):
        spans = [
            pair
            for n in range(count // 20)
            for pair in (
                [(span, copy(readable)) for span, readable in repeated]
                if values == "repeated"
                else [ended(shape) for shape in shapes(f"{block}x{n}")]
            )
        ]
        begin = time.thread_time()
        for span, readable in spans:
            processor.on_start(span, None)
            processor.on_end(readable)
        blocks.append((time.thread_time() - begin) / len(spans))
    print(json.dumps({"span": sorted(blocks[1:])[2]}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
