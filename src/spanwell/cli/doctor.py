"""`spanwell doctor`: what is configured and why, what is wrong, and whether a span would arrive."""

from __future__ import annotations

import json
import textwrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import TextIO

    from spanwell.cli.findings import Finding


_INDENT = 11  # two spaces, "problem", two spaces


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `doctor` subcommand."""
    parser = commands.add_parser("doctor", help="explain what is configured and find what is wrong")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--offline", action="store_true", help="do not connect to the endpoint")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Print the findings; exit status 1 if one of them is a problem."""
    import logging

    from spanwell.cli.findings import findings

    silent = logging.NullHandler()  # whatever a library logs on the way is a finding already
    logging.getLogger().addHandler(silent)
    try:
        found = list(findings(environ, online=not args.offline))
    finally:
        logging.getLogger().removeHandler(silent)
    if args.json:
        json.dump({"findings": [finding.as_json() for finding in found]}, out, indent=2)
        out.write("\n")
    else:
        _print(found, environ, out)
    return 1 if any(finding.level == "problem" for finding in found) else 0


def _print(found: list[Finding], environ: Mapping[str, str], out: TextIO) -> None:
    from spanwell.cli.terminal import Style, clean, terminal_width, wants_colour

    style = Style(wants_colour(environ, out))
    roles = {"ok": "good", "note": "warning", "problem": "error"}
    width = max(40, terminal_width(environ, out))
    topic = ""
    for finding in found:
        if finding.topic != topic:
            topic = finding.topic
            out.write(f"{style('title', topic)}\n")
        mark = style(roles[finding.level], f"{finding.level:<7}")
        lines = textwrap.wrap(
            clean(finding.text), width - _INDENT, break_long_words=False, break_on_hyphens=False
        ) or [""]
        out.write(f"  {mark}  {lines[0]}\n")
        out.writelines(" " * _INDENT + line + "\n" for line in lines[1:])
    problems = sum(finding.level == "problem" for finding in found)
    shown = f"{problems} problem{'s' if problems != 1 else ''} found" if problems else "no problems found"
    out.write(style("error" if problems else "good", shown) + "\n")
