"""Database and cache calls by the summary of their statement: `SELECT orders`, never the statement's values.

Instrumentors name such spans by the first word, the name of the database or, where the first word is no word, by raw
text. Of a name somebody else thought of nothing changes.
"""

from __future__ import annotations

from spanwell._otel import spans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan

SUMMARY = "db.query.summary"

_MAX_MEMO = 1024
_LONGEST_REMEMBERED = 2048
_MAX_READ = 2048
_MAX_SUMMARY = 255
_MAX_COMMANDS = 16
_MAX_WORD = 32

# Commands of Redis whose second word belongs to the name: redis-py sends `CONFIG GET` as one.
_TWO_WORDS = frozenset(
    (
        *("ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DEBUG", "FUNCTION", "LATENCY", "MEMORY", "MODULE"),
        *("OBJECT", "PUBSUB", "SCRIPT", "SENTINEL", "SLOWLOG", "XGROUP", "XINFO"),
    )
)


def commands(text: str) -> str:
    """The commands in the lines of `text`, a statement of Redis or memcached; of a repeated one a single time."""
    found: list[str] = []
    for line in text[:_MAX_READ].split("\n")[:_MAX_COMMANDS]:
        command = _command(line)
        if command and (not found or found[-1] != command):
            found.append(command)
    return " ".join(found)[:_MAX_SUMMARY]


def _command(line: str) -> str:
    words = line.split(None, 2)
    name = words[0] if words else ""
    if not name.replace(".", "").replace("_", "").isalnum() or len(name) > _MAX_WORD:
        return ""
    if len(words) > 1 and name.upper() in _TWO_WORDS and words[1].isalpha() and len(words[1]) <= _MAX_WORD:
        return f"{name} {words[1]}"
    return name


def _sql(text: str) -> str:
    # Its regular expressions wait for the first statement.
    from spanwell.enrich.sql_summary import summarize

    return summarize(text)


_READERS: dict[str, Callable[[str], str]] = {"redis": commands, "valkey": commands, "memcached": commands}
# The statement of these is their own language; what is known of them stands in other attributes.
_UNREAD = frozenset(("elasticsearch", "opensearch", "couchdb", "neo4j", "cassandra", "dynamodb", "aws.dynamodb"))


class Statements:
    """A part of `Ended`: `db.query.summary`, and the span's name where it says nothing or too much."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[str, str]] = {}

    def __call__(self, span: ReadableSpan, attributes: dict[str, Any]) -> bool:
        """Summarize the statement of a database span; False for others."""
        text = attributes.get("db.query.text") or attributes.get("db.statement")
        if text.__class__ is not str:
            return False
        system = attributes.get("db.system.name") or attributes.get("db.system")
        if system.__class__ is not str:
            system = ""
        if system in _UNREAD:
            return False
        if system == "mongodb":
            return _collection(text, attributes)
        database = attributes.get("db.namespace") or attributes.get("db.name")
        name, database = span.name, database if database.__class__ is str else ""
        found = self._known.get((text, name, system, database)) or self._read(text, name, system, database)
        summary, better = found
        if better:
            spans.rename(span, better)
        if not summary or SUMMARY in attributes:
            return False
        attributes[SUMMARY] = summary
        return True

    def _read(self, text: str, name: str, system: str, database: str) -> tuple[str, str]:
        summary = _READERS.get(system, _sql)(text)
        found = summary, "" if name == summary else _better(name, summary, text, system, database)
        if len(text) <= _LONGEST_REMEMBERED:
            if len(self._known) >= _MAX_MEMO:
                self._known.clear()
            self._known[text, name, system, database] = found
        return found


def _better(name: str, summary: str, text: str, system: str, database: str) -> str:
    """Another name for a span, or "" where `name` is one that was chosen."""
    operation, upper = summary.partition(" ")[0].upper(), name.upper()
    if upper in ("", operation, f"CURSOR: {operation}", "QUERY") or name == database:
        return summary
    if upper == f"{operation} {database.upper()}":
        return summary
    if system in _READERS and upper.startswith(f"{operation} "):  # every command of a pipeline
        return summary
    # As much of the statement as fits: a value may be in it.
    raw = len(name) > len(operation) and text.startswith(name.removesuffix("..."))
    return (summary or system or "query") if raw else ""


def _collection(text: str, attributes: dict[str, Any]) -> bool:
    """MongoDB's statement begins with the command; the collection stands beside it."""
    collection = attributes.get("db.collection.name") or attributes.get("db.mongodb.collection")
    command = text[:_MAX_READ].partition(" ")[0]
    if SUMMARY in attributes or not command.isalnum() or len(command) > _MAX_WORD:
        return False
    attributes[SUMMARY] = f"{command} {collection}"[:_MAX_SUMMARY] if isinstance(collection, str) else command
    return True
