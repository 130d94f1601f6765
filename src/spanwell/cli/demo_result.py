"""What the demo left in the store: is one whole trace there, and how it is shown."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any, TextIO

    Span = dict[str, Any]

WEB, ORDERS, WORKER = SERVICES = ("shop-web", "shop-orders", "shop-worker")


class Result:
    """The outcome of one demo. `problem` is "" exactly if `trace_id` is a whole trace."""

    def __init__(self, db: Path) -> None:
        self.db = db
        self.orders: dict[str, int] = {}
        self.seconds = 0.0
        self.problem = ""
        self.trace_id = ""
        self.traces = 0
        self.services: list[str] = []

    def look(self) -> None:
        """Read the store."""
        traces = _read(self.db)
        self.traces = len(traces)
        self.services = sorted({span["service"] for spans in traces.values() for span in spans})
        faults = []
        for trace_id, spans in traces.items():
            fault = missing(spans)
            if not fault:
                self.trace_id = trace_id
                return
            faults.append((len(spans), fault))
        # The largest trace came furthest.
        self.problem = f"no whole trace: {max(faults)[1]}" if faults else "no trace reached the store"


def missing(spans: list[Span]) -> str:
    """What the trace `spans` lacks, or "": each service calls the next, and the AWS calls are there by name."""
    by_id = {span["span_id"]: span for span in spans}
    for service in SERVICES:
        if not any(span["service"] == service for span in spans):
            return f"{service} is not in it"
    for service, start in ((ORDERS, "DynamoDB."), (ORDERS, "SQS.SendMessage"), (WORKER, "DynamoDB.")):
        if not any(span["service"] == service and span["name"].startswith(start) for span in spans):
            return f"{service} has no span {start}"
    served = _parents(by_id, (span for span in spans if span["service"] == ORDERS and span["kind"] == "server"))
    if not any(parent["service"] == WEB and parent["kind"] == "client" for parent in served):
        return f"{ORDERS} is not called by {WEB}"
    took = _parents(by_id, (span for span in spans if span["service"] == WORKER and span["kind"] == "consumer"))
    if not any(parent["service"] == ORDERS and parent["name"] == "SQS.SendMessage" for parent in took):
        return f"{WORKER} does not continue the message of {ORDERS}"
    return ""


def _parents(by_id: Mapping[str, Span], spans: Iterable[Span]) -> list[Span]:
    return [by_id[span["parent_id"]] for span in spans if span["parent_id"] in by_id]


def _read(db: Path) -> dict[str, list[Span]]:
    """Every trace, oldest first: trace id -> spans."""
    import sqlite3
    from contextlib import closing

    if not db.exists():
        return {}
    columns = ("trace_id", "span_id", "parent_id", "name", "kind", "service")
    traces: dict[str, list[Span]] = {}
    with closing(sqlite3.connect(db)) as connection:
        for row in connection.execute(f"SELECT {', '.join(columns)} FROM span ORDER BY start_ns"):
            traces.setdefault(row[0], []).append(dict(zip(columns, row, strict=True)))
    return traces


def describe(result: Result) -> dict[str, Any]:
    """The result for `--json`."""
    return {
        "ok": not result.problem,
        "problem": result.problem or None,
        "trace_id": result.trace_id or None,
        "traces": result.traces,
        "services": result.services,
        "orders": result.orders,
        "seconds": round(result.seconds, 1),
        "db": str(result.db),
    }


def show(result: Result, environ: Mapping[str, str], out: TextIO) -> None:
    """The list of traces, the tree of the whole one, and what to try next."""
    db = str(result.db)
    out.write("\n")
    _command(["traces", "--service", WEB, "--limit", "10", "--db", db], environ, out)
    out.write("\n")
    _command(["trace", result.trace_id, "--db", db], environ, out)
    out.write(
        f"\nOne trace from the front end to the worker, in {result.seconds:.0f} s. Look further:\n"
        f"  spanwell traces --db {db}\n"
        f"  spanwell trace {result.trace_id} --db {db}\n"
        "and trace your own application:\n"
        "  spanwell run -- python app.py\n"
    )


def _command(arguments: list[str], environ: Mapping[str, str], out: TextIO) -> None:
    from argparse import ArgumentParser

    from spanwell.cli import traces

    parser = ArgumentParser(prog="spanwell")
    traces.register(parser.add_subparsers())
    args = parser.parse_args(arguments)
    args.run(args, environ, out)
