"""The event-source mapping in docs/kinesis.md is sound, and does not stay at Lambda's defaults."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "kinesis.md"


def test_the_template_of_the_document_is_sound() -> None:
    from cfnlint import api, decode

    template = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]
    parsed, problems = decode.decode_str(template)
    assert not problems
    assert not [match for match in api.lint_all(template) if match.rule.id[0] in "EW"]
    mapping = json.loads(json.dumps(parsed))["Resources"]["SpansToConsumer"]["Properties"]
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["MaximumRetryAttempts"] > 0
    assert mapping["DestinationConfig"]["OnFailure"]["Destination"]
