"""docs/migrating.md: each pair of snippets runs, and the X-Ray daemon gets the same from both.

"Before" runs with the real X-Ray SDK, "after" under `spanwell run`; both send documents to a daemon on loopback.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.daemon import HEADER, daemon
from support.servers import moto
from support.started import clean, run

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs" / "migrating.md"

# What makes a request, with the means of either side, around the snippet's `work`.
BEFORE = """
from aws_xray_sdk.core import xray_recorder
from aws_xray_sdk.core.emitters.udp_emitter import UDPEmitter

xray_recorder.configure(sampling=False, service="shop")
if ALONE:
    work()
else:
    with xray_recorder.in_segment("shop"):
        work()
"""
AFTER = """
from opentelemetry import trace

if ALONE:
    work()
else:
    with trace.get_tracer("test").start_as_current_span("GET /", kind=trace.SpanKind.SERVER):
        work()
"""


class Pair(NamedTuple):
    title: str
    before: str
    after: str

    @property
    def alone(self) -> bool:
        """Whether `work` makes its segment by itself."""
        return "in_segment" in self.before


def pairs() -> Iterator[Pair]:
    text = DOCUMENT.read_text()
    for section in re.split(r"(?m)^### ", text)[1:]:
        found = re.findall(r"```python\n# (X-Ray SDK|spanwell)\n(.*?)```", section, re.DOTALL)
        yield Pair(section.partition("\n")[0], dict(found)["X-Ray SDK"], dict(found)["spanwell"])


PAIRS = list(pairs())


class Arrived(NamedTuple):
    """A (sub)segment, in the words of both."""

    name: str
    segment: bool
    parent: str | None
    failed: bool
    exceptions: tuple[tuple[str, str], ...]
    annotations: dict[str, Any]
    user: str | None
    metadata: dict[str, Any]
    aws: str
    trace_id: str


def flat(document: dict[str, Any], parent: str | None = None, trace: str = "") -> Iterator[dict[str, Any]]:
    document = {"parent_id": parent, "trace_id": trace, **document}
    yield document
    for each in document.get("subsegments", ()):
        yield from flat(each, document["id"], document["trace_id"])


def arrived(datagrams: list[bytes]) -> list[Arrived]:
    documents = [each for datagram in datagrams for each in flat(json.loads(datagram.removeprefix(HEADER)))]
    names = {document["id"]: document["name"] for document in documents}
    found = []
    for each in documents:
        cause = each.get("cause", {})
        exceptions = cause.get("exceptions", []) if isinstance(cause, dict) else []
        found.append(
            Arrived(
                each["name"],
                each.get("type") != "subsegment" and (each["parent_id"] is None or each["parent_id"] not in names),
                names.get(each["parent_id"]),
                bool(each.get("fault") or each.get("error")),
                tuple((one["type"].rpartition(".")[2], one["message"]) for one in exceptions),
                each.get("annotations", {}),
                each.get("user"),
                each.get("metadata", {}),
                each.get("aws", {}).get("operation", ""),
                each["trace_id"],
            )
        )
    return sorted(found, key=lambda each: (not each.segment, each.name))


def outcome(pair: Pair, side: str, folder: Path, **variables: str) -> list[Arrived]:
    script = folder / f"{side}.py"
    snippet, driver = (pair.before, BEFORE) if side == "before" else (pair.after, AFTER)
    script.write_text(f"{snippet}\nALONE = {pair.alone}\n{textwrap.dedent(driver)}")
    with daemon() as udp:
        keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": "eu-west-1"}
        env = clean(
            AWS_XRAY_DAEMON_ADDRESS=udp.address,
            OTEL_TRACES_EXPORTER="xray",
            OTEL_SERVICE_NAME="shop",
            SPANWELL_SHUTDOWN_TIMEOUT="20",
            AWS_DEFAULT_REGION="eu-west-1",
            **{**keys, **variables},
        )
        if side == "before":
            done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stderr) == (0, "")
        else:
            assert run([sys.executable, str(script)], env) == (0, "", "")
        # Both processes have ended, so all was sent; the segment comes last.
        limit = time.monotonic() + 10
        while not any(each.segment for each in arrived(list(udp.datagrams))) and time.monotonic() < limit:
            time.sleep(0.02)
        return arrived(udp.datagrams)


def make_table(url: str) -> None:
    import boto3

    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-west-1"}
    boto3.client("dynamodb", endpoint_url=url, **keys).create_table(
        TableName="orders",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )


def test_every_section_has_a_pair() -> None:
    titles = re.findall(r"(?m)^### (.*)$", DOCUMENT.read_text())
    assert [pair.title for pair in PAIRS] == titles
    assert len(PAIRS) == 6


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.title)
def test_the_same_arrives(pair: Pair, tmp_path: Path) -> None:
    if "boto3" in pair.before:
        with moto() as url:
            make_table(url)
            before, after = (outcome(pair, side, tmp_path, AWS_ENDPOINT_URL=url) for side in ("before", "after"))
    else:
        before, after = (outcome(pair, side, tmp_path) for side in ("before", "after"))
    assert len({each.trace_id for each in before}) == len({each.trace_id for each in after}) == 1
    said = [
        [
            (each.name.lower(), each.segment, each.failed, each.exceptions, each.annotations, each.user, each.aws)
            for each in side
        ]
        for side in (before, after)
    ]
    assert said[1] == said[0]
    assert [each.parent and each.parent.lower() for each in after] == [each.parent for each in before]
    for old, new in zip(before, after, strict=True):
        for space, values in old.metadata.items():
            assert {key: new.metadata[space][key] for key in values} == values
