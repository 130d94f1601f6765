"""`spanwell config`: the effective settings and where each comes from."""

from __future__ import annotations

import json

from spanwell._otel.exporting import without_credentials
from spanwell._otel.sdk import quiet_resources
from spanwell.settings import Setting, Settings, display, secret

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any, TextIO

_HIDDEN = "(set, not shown)"


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `config` subcommand."""
    parser = commands.add_parser("config", help="show the effective settings and their source")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument("--all", action="store_true", help="also what has its default value")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, environ: Mapping[str, str], out: TextIO) -> int:
    """Print the settings; exit status 1 if a value is bad."""
    settings = load(environ)
    if args.json:
        json.dump(as_json(settings), out, indent=2)
        out.write("\n")
        return 1 if settings.problems else 0
    shown = [row for row in Settings.rows() if args.all or settings.chosen(row)]
    width = max((len(row.variable) for row in shown), default=0)
    for row in shown:
        out.write(f"{row.variable:<{width}}  {value_text(settings, row)}  ({settings.source(row)})\n")
    if not args.all:
        out.write(f"{'everything else' if shown else 'everything'} has its default; see `spanwell config --all`\n")
    for problem in settings.problems:
        out.write(f"problem: {problem}\n")
    return 1 if settings.problems else 0


def load(environ: Mapping[str, str]) -> Settings:
    """The settings of `environ`, with the distribution section of OTEL_CONFIG_FILE where there is one."""
    settings = Settings.from_env(environ)
    if settings.config_file:
        try:
            from spanwell.declarative import section

            with quiet_resources():  # the import of the SDK's logs runs the detectors and logs what is not found
                return Settings.from_env(environ, layers=(section(settings.config_file),))
        except Exception as error:
            return settings.with_problem(f"OTEL_CONFIG_FILE={settings.config_file!r} cannot be used: {error}")
    return settings


def as_json(settings: Settings) -> dict[str, Any]:
    """``{"settings": {VARIABLE: {"value", "source"}}, "problems": [...]}``"""
    return {
        "settings": {
            row.variable: {"value": _public(settings, row), "source": settings.source(row)} for row in Settings.rows()
        },
        "problems": list(settings.problems),
    }


def _public(settings: Settings, row: Setting[Any]) -> Any:
    value = settings.value(row)
    if row.parse is secret:
        return _HIDDEN if value else ""
    return without_credentials(value) if isinstance(value, str) else value


def value_text(settings: Settings, row: Setting[Any]) -> str:
    """The value as a user would write it, without a password in a URL and without headers."""
    if not settings.chosen(row):
        return display(row)
    value = settings.value(row)
    if row.parse is secret:
        return _HIDDEN
    if isinstance(value, tuple):
        return ",".join("=".join(each) if isinstance(each, tuple) else each for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else without_credentials(str(value))
