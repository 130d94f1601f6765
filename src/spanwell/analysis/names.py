"""What the metrics of insights and their attributes are called, for those that count and those that export. Pure."""

from __future__ import annotations

ENTRY, DEPENDENCY, INSIGHTS = "spanwell.entry.duration", "spanwell.dependency.duration", "spanwell.insights"
OPERATION, PEER = "spanwell.operation", "spanwell.peer"
KIND, OUTCOME, ERROR_TYPE = "spanwell.span.kind", "spanwell.outcome", "error.type"
TYPE, SEVERITY = "spanwell.insight.type", "spanwell.insight.severity"

MAX_SERIES = 2000
"""Label sets in a process."""

MAX_NAMES = 100
"""Different operations, peers, and other values of one label; the rest is `other`."""
