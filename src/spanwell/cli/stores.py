"""Where the commands read traces from: `--db FILE`, `--store sqlite:FILE` or `--store dynamodb:TABLE`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spanwell.explore.model import ExploreError
from spanwell.explore.stores.sqlite import SqliteStore
from spanwell.schema import default_path
from spanwell.settings import Settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from spanwell.explore.model import Trace
    from spanwell.explore.problems import Finding
    from spanwell.explore.stores.dynamodb import DynamoDbStore


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--store` and `--db`, of which one may be given."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--db", metavar="PATH", help="the file to read (SPANWELL_SQLITE_PATH)")
    where.add_argument(
        "--store", metavar="KIND:NAME", help="read dynamodb:TABLE (SPANWELL_DYNAMODB_TABLE) or sqlite:FILE"
    )


def open_store(args: argparse.Namespace, environ: Mapping[str, str]) -> SqliteStore | DynamoDbStore:
    """What the options name, else the trace file. Raises `ExploreError` in one line."""
    kind, _, name = (args.store or f"sqlite:{args.db or ''}").partition(":")
    if kind == "sqlite":
        return SqliteStore(database(name, environ))
    if kind == "dynamodb":
        return _table(name or Settings.from_env(environ).dynamodb_table, environ)
    raise ExploreError(f"--store {args.store!r} is no store: write dynamodb:TABLE or sqlite:FILE")


def database(given: str | None, environ: Mapping[str, str]) -> str:
    """The trace file: as given, else SPANWELL_SQLITE_PATH, else the default place."""
    return given or Settings.from_env(environ).sqlite_path or default_path(environ)


def _table(name: str, environ: Mapping[str, str]) -> DynamoDbStore:
    from spanwell.explore.stores.dynamodb import DynamoDbStore

    store = DynamoDbStore(name)
    store.closer = _Closer(store, environ).close
    return store


class _Closer:
    """Closes idle traces as they are read. Whoever may read but not write reads all the same."""

    def __init__(self, store: DynamoDbStore, environ: Mapping[str, str]) -> None:
        import os

        from spanwell.explore.finalise import Finaliser

        self._environ = environ
        self._judge: Callable[[Trace], list[Finding]] | None = None
        self._finaliser = Finaliser(store, self._findings, owner=os.urandom(6).hex())
        self._refused = False

    def close(self, parts: object, trace: Trace | None) -> None:
        """Close the trace if it is due."""
        if self._refused:
            return
        try:
            self._finaliser.close(parts, trace)  # type: ignore[arg-type]
        except Exception:
            self._refused = True

    def _findings(self, trace: Trace) -> list[Finding]:
        if self._judge is None:
            self._judge = judge(self._environ)
        return self._judge(trace)


def judge(environ: Mapping[str, str]) -> Callable[[Trace], list[Finding]]:
    """All detectors with the thresholds of the environment, for whole traces."""
    from importlib.metadata import entry_points

    from spanwell.explore.problems import Judge
    from spanwell.insights.loading import GROUP, load

    settings = Settings.from_env(environ)
    loaded = load(
        chosen=settings.insight_thresholds,
        disabled=settings.insights_disabled,
        plugins=entry_points(group=GROUP),
        report=lambda _problem: None,  # `spanwell insights` and the processes themselves say it
    )
    return Judge({module.NAME: module.detect for module in loaded.local}, loaded.thresholds).findings
