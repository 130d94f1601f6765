"""`spanwell traces --filter` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from opentelemetry.trace import SpanKind

from spanwell.export.sqlite import SqliteSpanExporter
from support.spans import make_span

pytestmark = pytest.mark.slow

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three requests: one is fine, one is slow, one failed in stock, which a gold customer noticed."""
    path = tmp_path_factory.mktemp("filter") / "traces.db"
    now = time.time_ns() - 60 * SECOND
    exporter = SqliteSpanExporter(str(path))
    for number, (status, took, tier) in enumerate(((200, 1, "silver"), (200, 6, "silver"), (500, 1, "gold"))):
        failed = "boom" if status == 500 else None
        told = {"http.request.method": "GET", "http.response.status_code": status}
        trace = (0xA0 + number) << 120
        exporter.export([
            make_span(trace_id=trace, span_id=1, name="GET /items", kind=SpanKind.SERVER, attributes=told,
                      start=now + number, duration=took * SECOND, error=failed),
            make_span(trace_id=trace, span_id=2, parent=1, service="stock", kind=SpanKind.SERVER,
                      start=now + number, attributes={**told, "customer.tier": tier}, error=failed),
        ])  # fmt: skip
    exporter.shutdown()
    return path


def spanwell(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "SPANWELL_"))}
    return subprocess.run(
        [sys.executable, "-m", "spanwell", "traces", "--db", str(path), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        env={**clean, "PYTHONIOENCODING": "utf-8"},
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--filter", 'service("stock") { fault }'), ["a2"]),
        (("--filter", "responsetime > 5"), ["a1"]),
        (("--filter", "ok"), ["a1", "a0"]),
        (("--filter", "ok", "--limit", "1"), ["a1"]),
        (("--filter", "ok", "--min-duration", "2s"), ["a1"]),
        (("--filter", 'annotation.customer_tier = "gold" OR duration >= 6'), ["a2", "a1"]),
        (("--filter", 'edge("shop", "stock") AND !fault', "--service", "stock"), ["a1", "a0"]),
        (("--filter", "GOLD"), ["a2"]),
        (("--filter", "gold !boom"), []),
    ],
)
def test_lists(path: Path, arguments: tuple[str, ...], expected: list[str]) -> None:
    done = spanwell(path, "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert [trace["trace_id"][:2] for trace in json.loads(done.stdout)["traces"]] == expected


def test_a_table(path: Path) -> None:
    done = spanwell(path, "--filter", 'service("stock") { fault }')
    assert done.returncode == 0
    assert [line.split()[2][:2] for line in done.stdout.splitlines()[1:]] == ["a2"]


def test_nothing_matches_a_word_that_was_meant_as_a_keyword(path: Path) -> None:
    done = spanwell(path, "--filter", 'service("stock") { falt }')
    assert (done.returncode, done.stdout) == (0, "no traces match\n")
    assert done.stderr == "spanwell: falt was looked for as text; did you mean fault?\n"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_bad_expression(path: Path, more: tuple[str, ...]) -> None:
    done = spanwell(path, "--filter", "ok AND responstime > 5", *more)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "spanwell: --filter: unknown keyword responstime; did you mean responsetime?\n"
        "  ok AND responstime > 5\n"
        "         ^\n"
    )


def test_a_bad_expression_without_a_file(tmp_path: Path) -> None:
    assert spanwell(tmp_path / "none.db", "--filter", "(").returncode == 2
    assert spanwell(tmp_path / "none.db", "--filter", "ok").returncode == 1
