"""`spanwell sampling explain` and `spanwell sampling simulate`: what a sampling configuration does, and would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.cli import sampling_explain, sampling_simulate

if TYPE_CHECKING:
    import argparse


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with its two parts; `run` of the parsed arguments is `(args, environ, out) -> exit code`."""
    sampling = subparsers.add_parser("sampling", help="which rule decides, and what a configuration would keep")
    parts = sampling.add_subparsers(title="parts", metavar="PART", required=True)
    for module in (sampling_explain, sampling_simulate):
        module.register(parts)
