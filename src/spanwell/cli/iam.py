"""`spanwell iam`: the least-privilege IAM policy of each destination."""

from __future__ import annotations

import json
import re
import textwrap

from spanwell.cli.iam_policies import DESTINATIONS, EVERYTHING, Scope, grants, places, policy
from spanwell.cli.terminal import quiet_pipe, say_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import TextIO

    from spanwell.cli.iam_policies import Grant

_OPTIONS = {
    "region": (r"[a-z]{2,5}(-[a-z]+)+-\d+", "a region such as eu-west-1"),
    "account": (r"\d{12}", "an account number of 12 digits"),
    "table": (r"[A-Za-z0-9_.-]{3,255}", "the name of a DynamoDB table"),
    "stream": (r"[A-Za-z0-9_.-]{1,128}", "the name of a Kinesis stream"),
    "log_group": (r"[A-Za-z0-9_./#-]{1,512}", "the name of a log group"),
    "namespace": (r"[A-Za-z0-9._/#:-]{1,255}", "a CloudWatch namespace"),
}
_NARROWING = ("region", "account")


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command; `run` of the parsed arguments is `(args, environ, out) -> exit code`."""
    import argparse as arguments

    listed = "\n".join(f"  {name:<17} {destination.about}" for name, destination in DESTINATIONS.items())
    parser = commands.add_parser(
        "iam",
        help="the IAM policy that a destination needs",
        description="Print the least-privilege IAM policy (JSON) of one or more destinations.",
        epilog=f"destinations:\n{listed}",
        formatter_class=arguments.RawDescriptionHelpFormatter,
    )
    parser.add_argument("destinations", nargs="+", metavar="DESTINATION", help="see below; several make one policy")
    parser.add_argument("--region", metavar="NAME", help="only in this region")
    parser.add_argument("--account", metavar="NUMBER", help="only in this account")
    parser.add_argument("--table", metavar="NAME", help="of dynamodb: only this table")
    parser.add_argument("--stream", metavar="NAME", help="of kinesis: only this stream")
    parser.add_argument("--log-group", metavar="NAME", help="of emf, otlp-aws-logs: only this log group")
    parser.add_argument("--namespace", metavar="NAME", help="of cloudwatch: SPANWELL_METRICS_NAMESPACE")
    parser.add_argument("--read", action="store_true", help="of dynamodb: also what reading traces needs")
    parser.add_argument("--create", action="store_true", help="of dynamodb, emf: also what creating them needs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Print the policy, and on the error output what it does not show. Exit code 2 for wrong options."""
    needs = [need for need in ("read", "create") if getattr(args, need)]
    try:
        _check_names(args.destinations)
        scope = _scope(args)
        found = list(grants(args.destinations, needs))
        _check_use(args, found, needs)
    except ValueError as error:
        say_error(str(error))
        return 2
    with quiet_pipe(out):
        json.dump(policy(args.destinations, scope, needs), out, indent=2, ensure_ascii=True)
        out.write("\n")
    for line in _notes(args.destinations, found, scope):
        say_error(line)
    return 0


def _check_names(names: list[str]) -> None:
    unknown = [name for name in names if name not in DESTINATIONS]
    if unknown:
        raise ValueError(f"no destination {unknown[0]!r}: there are {', '.join(DESTINATIONS)}")


def _scope(args: argparse.Namespace) -> Scope:
    given = {}
    for name, (pattern, wanted) in _OPTIONS.items():
        value = getattr(args, name)
        if value is None:
            continue
        if not re.fullmatch(pattern, value, re.ASCII):
            raise ValueError(f"{_option(name)} {textwrap.shorten(repr(value), 80)} is not {wanted}")
        given[name] = value
    return Scope(**given)


def _check_use(args: argparse.Namespace, found: list[Grant], needs: list[str]) -> None:
    """Refuse an option that changes nothing: whoever gave it believes that the policy is narrower, or wider."""
    used = places(found)
    for name in _OPTIONS:
        if name not in _NARROWING and getattr(args, name) is not None and name not in used:
            raise ValueError(f"{_option(name)} is not for {', '.join(args.destinations)}")
    for need in needs:
        if need not in {grant.need for grant in found}:
            raise ValueError(f"--{need} is not for {', '.join(args.destinations)}")


def _notes(names: list[str], found: list[Grant], scope: Scope) -> list[str]:
    lines = []
    wide = [action for grant in found if grant.resources == EVERYTHING for action in grant.actions]
    if wide:
        lines.append(f'Resource "*" is all that IAM has for {", ".join(wide)}')
    open_places = [_option(name) for name in Scope._fields if name in places(found) and getattr(scope, name) == "*"]
    if open_places:
        lines.append(f"{', '.join(open_places)} would make it narrower")
    return lines + [DESTINATIONS[name].note for name in dict.fromkeys(names) if DESTINATIONS[name].note]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
