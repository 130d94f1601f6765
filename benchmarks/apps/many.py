"""CPU of a request once everything is warm, all threads and the export included: `many.py COUNT`."""

import json
import sys
import time

from order import create_app


def flush():
    """Export what is left, so that its cost is counted; nothing where there is no tracer."""
    trace = sys.modules.get("opentelemetry.trace")
    provider = trace.get_tracer_provider() if trace else None
    force = getattr(provider, "force_flush", None)
    if force:
        force()


def main(count):
    client = create_app().test_client()
    for _ in range(30):
        assert client.get("/orders/7").status_code == 200
    flush()
    cpu, wall = time.process_time(), time.monotonic()
    for _ in range(count):
        client.get("/orders/7")
    flush()
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    print(json.dumps({"cpu_request": cpu / count, "wall_request": wall / count}))


main(int(sys.argv[1]))
