"""`spanwell doctor`: what is configured and why, what is wrong, and whether a span would arrive."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import TextIO

    from spanwell.cli.findings import Finding


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `doctor` subcommand."""
    parser = commands.add_parser("doctor", help="explain what is configured and find what is wrong")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--offline", action="store_true", help="do not connect to the endpoint")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Print the findings; exit status 1 if one of them is a problem."""
    from spanwell.cli.findings import findings

    found = list(findings(environ, online=not args.offline))
    if args.json:
        json.dump({"findings": [finding.as_json() for finding in found]}, out, indent=2)
        out.write("\n")
    else:
        _print(found, environ, out)
    return 1 if any(finding.level == "problem" for finding in found) else 0


def _print(found: list[Finding], environ: Mapping[str, str], out: TextIO) -> None:
    from spanwell.cli.terminal import Style, wants_colour

    style = Style(wants_colour(environ, out))
    marks = {"ok": style("good", "ok"), "note": style("warning", "note"), "problem": style("error", "problem")}
    topic = ""
    for finding in found:
        if finding.topic != topic:
            topic = finding.topic
            out.write(f"{style('title', topic)}\n")
        out.write(f"  {marks[finding.level]}: {finding.text}\n")
    problems = sum(finding.level == "problem" for finding in found)
    out.write(f"{problems} problem(s)\n" if problems else "no problems\n")
