"""Every detector finds what is there and leaves alone what only looks like it, in programs new to it too."""

from __future__ import annotations

import pytest

from corpus.harness import HALVES, score
from corpus.table import DOCUMENT, detectors, row

pytestmark = [pytest.mark.slow, pytest.mark.full]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("detector", detectors())
def test_precision_and_recall(detector: str, half: str) -> None:
    result = score(detector, half)
    assert result.positives >= 10
    assert result.near_misses >= 10
    assert result.precision >= 0.95, result.wrong
    assert result.recall >= 0.95, result.wrong


@pytest.mark.parametrize("detector", detectors())
def test_the_document_says_so(detector: str) -> None:
    assert row(detector) in DOCUMENT.read_text().splitlines(), "run: PYTHONPATH=src:tests python -m corpus.table"
