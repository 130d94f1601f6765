"""What the invocations of a process add up to, by the wrapper's own clock: the insights slow_trace, trace_errors,
cold_start and timeout_near without a span, and lines of CloudWatch's Embedded Metric Format for them. Pure.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spanwell.settings import Settings

# As in insights.detectors, whose imports would cost 6 ms.
LIMITS = {"slow_trace.duration_ms": 5_000.0, "timeout_near.ratio": 0.1, "cold_start.init_ms": 0.0}
TYPES = ("slow_trace", "trace_errors", "cold_start", "timeout_near")


class Seen:
    """One ended invocation. Times in milliseconds; remaining_ms None where the runtime does not tell."""

    __slots__ = ("cold", "duration_ms", "failed", "init_ms", "remaining_ms")

    def __init__(
        self,
        duration_ms: float,
        *,
        failed: bool = False,
        cold: bool = False,
        init_ms: float = 0.0,
        remaining_ms: float | None = None,
    ) -> None:
        self.duration_ms = duration_ms
        self.failed = failed
        self.cold = cold
        self.init_ms = init_ms
        self.remaining_ms = remaining_ms


class Counts:
    """limits: the thresholds of insights. off: types that are not looked for. listed: types that become metrics, None
    for all; empty where no metric was asked for. service: the dimension ServiceName."""

    def __init__(
        self,
        service: str,
        *,
        limits: Mapping[str, float] | None = None,
        off: Iterable[str] = (),
        listed: Iterable[str] | None = (),
    ) -> None:
        self.invocations = 0
        self.found = dict.fromkeys(TYPES, 0)
        self._service = service
        self._limits = {**LIMITS, **(limits or {})}
        self._off = frozenset(off)
        self._listed = None if listed is None else frozenset(listed)

    @property
    def prints(self) -> bool:
        """Whether anything becomes a metric."""
        return self._listed is None or bool(self._listed)

    def add(self, seen: Seen) -> list[tuple[str, str]]:
        """Count an invocation; (type, severity) of what was found in it, as the detectors judge."""
        self.invocations += 1
        found = [each for each in self._judge(seen) if each[0] not in self._off]
        for kind, _ in found:
            self.found[kind] += 1
        return found

    def _judge(self, seen: Seen) -> Iterable[tuple[str, str]]:
        limits = self._limits
        if seen.duration_ms > limits["slow_trace.duration_ms"]:
            yield "slow_trace", "warning"
        if seen.failed:
            yield "trace_errors", "error"
        if seen.cold and seen.init_ms > limits["cold_start.init_ms"]:
            yield "cold_start", "info"
        if seen.remaining_ms is not None:
            whole = max(seen.remaining_ms, 0.0) + seen.duration_ms
            if seen.remaining_ms <= limits["timeout_near.ratio"] * whole:
                yield "timeout_near", "warning" if seen.remaining_ms > 0 else "error"

    def lines(self, found: Iterable[tuple[str, str]], time_ms: int) -> list[str]:
        """JSON lines that CloudWatch makes metrics of: one a severity, which is a dimension."""
        by_severity: dict[str, list[str]] = {}
        for kind, severity in found:
            if self._listed is None or kind in self._listed:
                by_severity.setdefault(severity, []).append(kind)
        return [_line(severity, kinds, self._service, time_ms) for severity, kinds in by_severity.items()]


def _line(severity: str, kinds: Iterable[str], service: str, time_ms: int) -> str:
    import json  # which the runtime client has imported

    from spanwell.export.cloudwatch_names import NAMESPACE

    metrics = ",".join(f'{{"Name":"{kind}","Unit":"Count"}}' for kind in kinds)
    values = "".join(f',"{kind}":1' for kind in kinds)
    return (
        f'{{"_aws":{{"Timestamp":{time_ms},"CloudWatchMetrics":[{{"Namespace":"{NAMESPACE}",'
        f'"Dimensions":[["Severity","ServiceName"]],"Metrics":[{metrics}]}}]}},'
        f'"Severity":"{severity}","ServiceName":{json.dumps(service)}{values}}}'
    )


def from_settings(settings: Settings, environ: Mapping[str, str]) -> Counts:
    """The counts that `settings` ask for: as metrics with SPANWELL_LAMBDA_METRICS=emf, or where insights go to the
    metrics exporter `emf` anyway."""
    limits, off = _limits(settings.insight_thresholds), settings.insights_disabled
    if settings.lambda_metrics != "emf" and not (settings.insights and "emf" in settings.metrics_exporter):
        return Counts("", limits=limits, off=off)
    from spanwell.enrich.service import default_service_name
    from spanwell.export.cloudwatch_names import ascii_text, parse

    service = ascii_text(default_service_name(environ, ())[0])
    # What is wrong with the list is reported where metrics are set up.
    listed = parse(settings.cloudwatch_metrics, lambda _: None).insights
    return Counts(service, limits=limits, off=off, listed=listed)


def _limits(texts: Iterable[str]) -> dict[str, float]:
    """The thresholds of ours among `name=number`. Those of one operation need its name, which only a span has; what
    cannot be read is reported where insights are set up."""
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        name = name.strip()
        if name in LIMITS:
            try:
                number = float(value)
            except ValueError:
                continue
            if 0 <= number < float("inf"):
                found[name] = number
    return found
