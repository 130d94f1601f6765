"""Names that more than one room must agree on: of the metrics of insights, of throttling. Pure."""

from __future__ import annotations

ENTRY, DEPENDENCY, INSIGHTS = "spanwell.entry.duration", "spanwell.dependency.duration", "spanwell.insights"
OPERATION, PEER = "spanwell.operation", "spanwell.peer"
KIND, OUTCOME, ERROR_TYPE = "spanwell.span.kind", "spanwell.outcome", "error.type"
TYPE, SEVERITY = "spanwell.insight.type", "spanwell.insight.severity"

MAX_SERIES = 2000
"""Label sets in a process."""

MAX_NAMES = 100
"""Different operations, peers, and other values of one label; the rest is `other`."""

THROTTLED = "spanwell.throttled"
"""True on a call that failed because AWS limits its rate."""

THROTTLES = frozenset(
    (
        *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException"),
        *("RequestThrottled", "TooManyRequestsException", "ProvisionedThroughputExceededException"),
        *("TransactionInProgressException", "RequestLimitExceeded", "BandwidthLimitExceeded"),
        *("LimitExceededException", "SlowDown", "PriorRequestNotComplete", "EC2ThrottledException"),
    )
)
"""The codes that botocore's own retry handling takes for throttling."""
