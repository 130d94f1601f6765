"""Sends the dead letters of the `kinesis` exporter again: `python -m spanwell.export.kinesis_replay FILE`.

A run that is cut short may be repeated: it begins with the file that the first one had set aside. Records may then be
in the stream twice; consumers know spans by their ids.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from spanwell.export.dead_letter import DEFAULT_MAX_BYTES, DeadLetters, read
from spanwell.export.kinesis import KinesisSpanExporter
from spanwell.export.kinesis_records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_CHUNK = 500


class Replayed(NamedTuple):
    """Spans that arrived, spans that are in the file again, lines that were no letters, and why spans were left."""

    sent: int
    left: int
    damaged: int
    reason: str


def replay(path: str, *, stream: str = "", client: Callable[[], Any] | None = None) -> Replayed:
    """Put every letter of the file at `path` into its stream, or all into `stream`.

    What fails is appended to a new file at `path`. Raises OSError if there is no file, or if that new one cannot be
    written; nothing is lost then.
    """
    aside = f"{path}.replaying"
    if not os.path.exists(aside):
        os.rename(path, aside)
    letters = DeadLetters(path, max_bytes=2 * DEFAULT_MAX_BYTES)
    exporters: dict[str, KinesisSpanExporter] = {}
    waiting: dict[str, list[Record]] = {}
    result = Replayed(0, 0, 0, "")

    def put(target: str) -> Replayed:
        if target not in exporters:
            exporters[target] = KinesisSpanExporter(target, dead_letters=letters, client=client)
        made = waiting.pop(target)
        lost, reason, _ = exporters[target].put(made)
        sent = sum(record.spans for record in made) - lost
        return Replayed(result.sent + sent, result.left + lost, result.damaged, reason or result.reason)

    for letter in read(aside):
        if letter is None:
            result = result._replace(damaged=result.damaged + 1)
            continue
        target = stream or letter.stream
        waiting.setdefault(target, []).append(Record(letter.key, letter.data, letter.spans))
        if len(waiting[target]) >= _CHUNK:
            result = put(target)
    for target in list(waiting):
        result = put(target)
    if letters.kept < result.left:
        raise OSError(f"{path} cannot be written; everything is still in {aside}")
    os.remove(aside)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: 0 if everything arrived, 1 if something did not, 2 for wrong usage."""
    import argparse

    parser = argparse.ArgumentParser(prog="spanwell.export.kinesis_replay", description=__doc__.splitlines()[0])
    parser.add_argument("file", help="the file of SPANWELL_KINESIS_DEAD_LETTER")
    parser.add_argument("--stream", default="", help="put everything into this stream instead of its own")
    args = parser.parse_args(arguments)
    try:
        done = replay(args.file, stream=args.stream)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"spanwell: {error}\n")
        return 2
    sys.stdout.write(f"{done.sent} spans were sent, {done.left} are left, {done.damaged} lines are damaged\n")
    if done.reason:
        sys.stdout.write(f"{done.reason}\n")
    return 1 if done.left else 0


if __name__ == "__main__":
    sys.exit(main())
