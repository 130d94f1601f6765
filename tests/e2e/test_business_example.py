"""examples/business runs, traced and untraced, and its spans say what the example promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.started import LAUNCHERS, clean, run, stored, traced

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2] / "examples" / "business" / "checkout.py"
SAID = "A-1 True\nA-2 False\n"


@pytest.mark.parametrize("launcher", sorted(LAUNCHERS))
def test_its_spans(launcher: str, tmp_path: Path) -> None:
    assert run([sys.executable, str(CHECKOUT)], traced(tmp_path / "t.db"), launcher=launcher) == (0, SAID, "")
    spans = stored(tmp_path / "t.db")
    roots = {span.attributes["order_id"]: span for span in spans if span.parent_id is None}
    assert sorted(roots) == ["A-1", "A-2"]
    for root in roots.values():
        assert root.name == "checkout"
        assert sorted(root.attributes["aws.xray.annotations"]) == ["customer_tier", "order_id"]
        children = sorted(span.name for span in spans if span.parent_id == root.span_id)
        assert children == ["price cart", "reserve stock"]
    [priced] = [span for span in spans if span.parent_id == roots["A-1"].span_id and span.name == "price cart"]
    assert priced.attributes["app.cart.total"] == 2500


def test_it_runs_untraced() -> None:
    done = subprocess.run([sys.executable, str(CHECKOUT)], env=clean(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, SAID, "")
