"""`spanwell doctor`: what is configured and why, what is wrong, and whether a span would arrive."""

from __future__ import annotations

import json
import textwrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from spanwell.cli.delivery import Delivery
    from spanwell.cli.findings import Finding


_INDENT = 11  # two spaces, "problem", two spaces


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `doctor` subcommand."""
    parser = commands.add_parser("doctor", help="explain what is configured and find what is wrong")
    parser.add_argument("--json", action="store_true", help="as JSON")
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--offline", action="store_true", help="do not connect to the endpoint")
    network.add_argument("--send", action="store_true", help="send one test span to every destination")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Print the findings; exit status 1 if one of them is a problem."""
    import logging

    from spanwell.cli.findings import findings

    sent: list[Delivery] = []
    silent = logging.NullHandler()  # whatever a library logs on the way is a finding already
    logging.getLogger().addHandler(silent)
    try:
        found = list(findings(environ, online=not args.offline, probe=not args.send))
        if args.send:
            found += _send(environ, sent)
    finally:
        logging.getLogger().removeHandler(silent)
    if args.json:
        tree: dict[str, object] = {"findings": [finding.as_json() for finding in found]}
        if args.send:
            tree["deliveries"] = [delivery.as_json() for delivery in sent]
        json.dump(tree, out, indent=2)
        out.write("\n")
    else:
        _print(found, environ, out)
    return 1 if any(finding.level == "problem" for finding in found) else 0


def _send(environ: Mapping[str, str], sent: list[Delivery]) -> Iterator[Finding]:
    """The findings of sending a test span; `sent` gets what became of it."""
    from spanwell._otel.registry import readable_limits
    from spanwell.cli.config import load
    from spanwell.cli.findings import Finding

    with readable_limits():
        from spanwell.cli import delivery

    def finding(level: str, text: str) -> Finding:
        return Finding("delivery", level, text)

    settings = load(environ)
    if settings.sdk_disabled:
        yield finding("note", "OTEL_SDK_DISABLED=true: nothing is sent")
        return
    found = delivery.Destinations(settings, environ)
    span = delivery.make_span(settings, environ, found.resource)
    trace = format(span.context.trace_id, "032x") if span.context is not None else ""
    yield finding("ok", f"test span `{delivery.NAME}` ({delivery.MARK}=true), trace {trace}")
    for one in delivery.send(found, span):
        sent.append(one)
        yield finding(*one.finding())
    if not sent:
        yield finding("note", "there is no destination to send it to")
    for text in delivery.untested(settings):
        yield finding("note", text)


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
