"""One pure file a detector; this is the table of all. Nothing is imported before the first local root ends."""

from __future__ import annotations

LOCAL = (
    "slow_trace",
    "trace_errors",
    "high_service_count",
    "retried_call",
    "n_plus_one",
    "throttled_dependency",
    "slow_db",
    "slow_aws_call",
    "sequential_calls",
    "bottleneck",
    "suppressed_error",
    "oversized_trace",
    "cold_start",
    "timeout_near",
)
"""Those that look at a fragment, in the order in which they run."""

OVER_TIME = ("latency_degradation", "tracing_overhead")
"""Those that are not about one trace; see `drift`."""

NAMES = (*LOCAL, *OVER_TIME)

# Below the least of these thresholds, without failed, retried or throttled spans and without `ROOT_KEYS`, none of
# `LOCAL` finds anything, and none is asked: asking each would cost a healthy trace more than all else done for it.
DURATIONS = (
    *("slow_trace.duration_ms", "n_plus_one.duration_ms", "sequential_calls.saved_ms", "bottleneck.duration_ms"),
    *("slow_db.duration_ms", "slow_aws_call.duration_ms", "slow_aws_call.model_duration_ms"),
)
CLIENTS = ("high_service_count.count",)
SPANS = ("oversized_trace.spans",)
BYTES = ("oversized_trace.span_bytes",)
ROOT_KEYS = (
    *("faas.coldstart", "spanwell.lambda.init_ms"),
    *("spanwell.lambda.remaining_ms", "spanwell.timeout_ms"),
)
"""Attributes of a local root that cold_start and timeout_near look at."""
