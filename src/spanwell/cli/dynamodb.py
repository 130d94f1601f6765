"""`spanwell dynamodb create` makes the table of the `dynamodb` exporter, `finalise` closes its idle traces."""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from spanwell.cli.terminal import duration, quiet_pipe, say_error
from spanwell.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TextIO

    from spanwell.explore.finalise import Finaliser
    from spanwell.explore.stores.dynamodb import DynamoDbStore

_SECOND = 1_000_000_000
_MOST_DAYS = 36_500
_AT_A_TIME = 200


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its two parts; `run` of the parsed arguments is `(args, environ, out) -> exit code`."""
    top = commands.add_parser("dynamodb", help="make the table of the dynamodb exporter, close its idle traces")
    parts = top.add_subparsers(title="parts", metavar="PART", required=True)
    create = parts.add_parser("create", help="make the table, its index and its expiry; again it changes nothing")
    _add_table(create)
    create.add_argument(
        "--retention-days", type=_days, metavar="N", help="for the settings it prints (SPANWELL_RETENTION_DAYS, 30)"
    )
    create.add_argument("--print-template", action="store_true", help="print a CloudFormation template instead")
    create.set_defaults(run=run_create)
    finalise = parts.add_parser("finalise", help="write the final summary of traces that are idle for 30 seconds")
    _add_table(finalise)
    again = finalise.add_mutually_exclusive_group()
    again.add_argument("--once", action="store_true", help="one pass (the default)")
    again.add_argument("--interval", type=duration, metavar="TIME", help="pass after pass, this far apart: 30s")
    finalise.add_argument(
        "--since", type=duration, default=3600 * _SECOND, metavar="TIME", help="traces this young (1h)"
    )
    finalise.add_argument(
        "--metrics",
        nargs="?",
        const="new",
        choices=("new", "all"),
        help="send slow_trace, trace_errors and high_service_count to CloudWatch: those that no process of the"
        " application has found itself (new), or all",
    )
    finalise.set_defaults(run=run_finalise)


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", metavar="NAME", help="the table (SPANWELL_DYNAMODB_TABLE, spanwell-traces)")


def _days(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:10]) <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {_MOST_DAYS}")
    return int(text)


def run_create(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Make the table: exit code 0, 1 when that failed, 2 for a name that no table can have."""
    from spanwell.cli.dynamodb_table import WrongTable, environment, make, template
    from spanwell.export import aws_client
    from spanwell.export.dynamodb_layout import check_table

    settings = Settings.from_env(environ)
    table = args.table or settings.dynamodb_table
    days = args.retention_days or settings.retention_days
    try:
        check_table(table)
    except ValueError as error:
        say_error(str(error))
        return 2
    with quiet_pipe(out):
        if args.print_template:
            json.dump(template(table, days), out, indent=2, ensure_ascii=True)
            out.write("\n")
            return 0
        try:
            client = aws_client.make_client("dynamodb", retries={"mode": "standard", "total_max_attempts": 4})
            for line in make(client, table):
                out.write(line + "\n")
        except WrongTable as error:
            say_error(str(error))
            return 1
        except Exception as error:
            denied = "allow dynamodb:CreateTable, DescribeTable and UpdateTimeToLive: `spanwell iam dynamodb`"
            say_error(f"cannot make the table {table}: {aws_client.explain(error, denied=denied)}")
            return 1
        out.write(f"now run: {environment(table, days)} spanwell run -- your command\n")
    return 0


# --- closing traces -----------------------------------------------------------------------------------------------


class Pass(NamedTuple):
    """What one look through the table did: traces closed by now, still open, and traces whose metrics were sent."""

    closed: int
    open: int
    sent: int


def run_finalise(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Close traces: exit code 0, or 1 when the table, or CloudWatch, refuses."""
    from spanwell.cli.stores import judge
    from spanwell.explore.finalise import Finaliser
    from spanwell.explore.model import ExploreError
    from spanwell.explore.stores.dynamodb import DynamoDbStore

    done: set[str] = set()
    try:
        with DynamoDbStore(args.table or Settings.from_env(environ).dynamodb_table) as store:
            finaliser = Finaliser(store, judge(environ), owner=os.urandom(6).hex())
            cloudwatch = _cloudwatch() if args.metrics else None
            while True:
                try:
                    with store.readable():
                        since = time.time_ns() - args.since
                        found = one_pass(store, finaliser, done, since, cloudwatch, everything=args.metrics == "all")
                    _say(found, args.metrics, out)
                except ExploreError as error:
                    if args.interval is None:
                        raise
                    say_error(str(error))  # the next pass may do better
                if args.interval is None:
                    return 0
                time.sleep(max(1.0, args.interval / _SECOND))
    except ExploreError as error:
        say_error(str(error))
        return 1


def _say(found: Pass, metrics: str | None, out: TextIO) -> None:
    sent = f", metrics of {found.sent} sent" if metrics else ""
    out.write(f"{found.closed} traces closed, {found.open} still open{sent}\n")
    out.flush()


def one_pass(
    store: DynamoDbStore,
    finaliser: Finaliser,
    done: set[str],
    since_ns: int,
    cloudwatch: Any,
    *,
    everything: bool = False,
) -> Pass:
    """Close what is due of the traces since `since_ns`; `done` are those that need no further look, and is kept."""
    from spanwell.explore.finalise import settled

    closed = still_open = 0
    finals: list[Any] = []
    seen: set[str] = set()
    for _, trace_id in store.candidates(None, since_ns):
        if trace_id in seen:
            continue
        seen.add(trace_id)
        parts = store.parts(trace_id) if trace_id not in done else None
        if parts is None:
            continue
        if not finaliser.close(parts):
            still_open += 1
            continue
        closed += 1
        final = (parts.final or store.final(trace_id)) if cloudwatch is not None else None
        if final is None or settled(final):
            done.add(trace_id)
        else:
            finals.append(final)
    sent = 0
    for start in range(0, len(finals), _AT_A_TIME):
        some = finaliser.send(finals[start : start + _AT_A_TIME], cloudwatch, everything=everything)
        done.update(some)
        sent += len(some)
    done &= seen
    return Pass(closed, still_open, sent)


def _cloudwatch() -> Any:
    from spanwell.explore.model import StoreError
    from spanwell.export import aws_client

    try:
        return aws_client.make_client("cloudwatch")
    except Exception as error:
        raise StoreError(f"cannot send metrics to CloudWatch: {aws_client.explain(error)}") from error
