"""The `spanwell` command: each subcommand is a module that registers its parser and a `run` function."""

from __future__ import annotations

import argparse
import os
import sys

from spanwell import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `spanwell ARGUMENTS` and return the exit status: 0 fine, 1 a problem was found, 2 wrong usage."""
    args = parser().parse_args(arguments)
    if args.run is None:
        parser().print_help()
        return 2
    try:
        status = int(args.run(args, os.environ, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; a second flush at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from spanwell.cli import alarms, config, demo, doctor, dynamodb, exporting, iam, importing, insights, sampling
    from spanwell.cli import traces as stored

    top = argparse.ArgumentParser(
        prog="spanwell", description="Whole traces for Python on AWS, from one command.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"spanwell {__version__}")
    top.set_defaults(run=None)
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    # Only for the list in the help text: these two are handled before argparse is imported.
    commands.add_parser("run", help="run a command with tracing: spanwell run -- python app.py", add_help=False)
    commands.add_parser("lambda", help="the ENTRYPOINT of a Lambda container image", add_help=False)
    for module in (demo, stored, importing, exporting, insights, sampling, alarms, dynamodb, iam, doctor, config):
        module.register(commands)
    return top
