"""`spanwell alarms`: CloudWatch alarms and a dashboard for a service's insights, as a CloudFormation template."""

from __future__ import annotations

import argparse
import json
import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from spanwell.cli.alarm_template import FASTEST, Wanted, budget, template
from spanwell.cli.terminal import quiet_pipe, say_error
from spanwell.export.cloudwatch_names import NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

_TOPIC = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}(\.fifo)?")
_NAMESPACE = re.compile(r"[A-Za-z0-9._/#:-]{1,255}")
_LONGEST_NAME = 200
_LOWEST = 100 - 100 / FASTEST  # below, the fast alarm would need more than all requests to fail


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command; `run` of the parsed arguments is `(args, environ, out) -> exit code`."""
    defaults = Wanted("")
    parser = commands.add_parser(
        "alarms",
        help="CloudWatch alarms and a dashboard for a service",
        description="Print a CloudFormation template (JSON) with alarms and a dashboard for a service's insights.",
        epilog="Counts are per 5 minutes; 0 leaves an alarm out. The alarms on latency and on the error budget need"
        " SPANWELL_CLOUDWATCH_METRICS=entry.duration in the service: see docs/insights.md.",
    )
    parser.add_argument("--service", required=True, metavar="NAME", help="the service.name to watch")
    for name, what in (
        ("slow_trace", "slow traces"),
        ("trace_errors", "traces with an error"),
        ("high_service_count", "traces over many services"),
    ):
        default = getattr(defaults, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}", default=str(default), metavar="N", help=f"alarm at N {what} ({default})"
        )
    parser.add_argument(
        "--latency-band",
        default=f"{defaults.latency_band:g}",
        metavar="WIDTH",
        help=f"width of the expected latency in standard deviations ({defaults.latency_band:g})",
    )
    parser.add_argument("--slo", metavar="PERCENT", help="alarms on the error budget of this objective, e.g. 99.9")
    parser.add_argument("--topic", default="", metavar="ARN", help="the SNS topic the alarms tell")
    parser.add_argument(
        "--namespace", default=NAMESPACE, metavar="NAME", help=f"CloudWatch namespace of the metrics ({NAMESPACE})"
    )
    parser.add_argument(
        "--dashboard", action=argparse.BooleanOptionalAction, default=True, help="with a dashboard (yes)"
    )
    parser.add_argument("--format", choices=("cloudformation",), default="cloudformation", help="(cloudformation)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Print the template: exit code 0, or 2 for an option that makes no sense."""
    try:
        wanted = _wanted(args)
    except ValueError as error:
        say_error(str(error))
        return 2
    with quiet_pipe(out):
        json.dump(template(wanted), out, indent=2, ensure_ascii=True)
        out.write("\n")
    return 0


def _wanted(args: argparse.Namespace) -> Wanted:
    """The options, checked. Raises ValueError with one line."""
    wanted = Wanted(
        _service(args.service),
        _count("--slow-trace", args.slow_trace),
        _count("--trace-errors", args.trace_errors),
        _count("--high-service-count", args.high_service_count),
        _width(args.latency_band),
        None if args.slo is None else _objective(args.slo),
        args.topic
        and _matching("--topic", args.topic, _TOPIC, "the ARN of an SNS topic: arn:aws:sns:REGION:ACCOUNT:NAME"),
        args.dashboard,
        _matching("--namespace", args.namespace, _NAMESPACE, "a CloudWatch namespace: letters, digits and ._/#:-"),
    )
    if not template(wanted)["Resources"]:
        raise ValueError("nothing is left: every alarm is 0 and there is no dashboard")
    return wanted


def _service(text: str) -> str:
    bad = not text.strip() or len(text) > _LONGEST_NAME or not text.isascii() or not text.isprintable()
    if bad or text.startswith(":") or '"' in text or "\\" in text:
        raise ValueError(
            f"--service {text!r} cannot be a CloudWatch dimension: give 1 to {_LONGEST_NAME} ASCII characters,"
            " without quotes or a colon in front"
        )
    return text


def _count(option: str, text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text[:10]) > 1_000_000:
        raise ValueError(f"{option} {text!r} is not a whole number from 0 (no such alarm) to 1000000")
    return int(text)


def _width(text: str) -> float:
    value = _number(text)
    if value is None or not 0 <= value <= 100:
        raise ValueError(f"--latency-band {text!r} is not a number from 0 (no such alarm) to 100; 2 is usual")
    return float(value)


def _objective(text: str) -> Decimal:
    value = _number(text.removesuffix("%"))
    if value is None or not 0 < value < 100 or budget(value) < Decimal("1e-7"):
        raise ValueError(f"--slo {text!r} is not a percentage below 100, such as 99.9")
    if value < _LOWEST:
        raise ValueError(
            f"--slo {text!r} is too low: at {FASTEST} times its error budget more than all requests would fail; give"
            " 93.1 or more"
        )
    return value


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(text) if text.isascii() and len(text) <= 30 else None
    except InvalidOperation:
        return None
    return value if value is not None and value.is_finite() else None


def _matching(option: str, text: str, pattern: re.Pattern[str], wanted: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{option} {text!r} is not {wanted}")
    return text
