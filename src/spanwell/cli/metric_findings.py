"""What `spanwell doctor` says of metrics on their way to CloudWatch: how many there may be, and what they cost."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spanwell.export.cloudwatch_names import Chosen
    from spanwell.settings import Settings

    Findings = Iterator[tuple[str, str]]

_BILLED = ("cloudwatch", "emf")


def metric_findings(settings: Settings, *, on_lambda: bool = False) -> Findings:
    """(level, text) for every destination of metrics that AWS bills, and for Application Signals."""
    names = [name for name in settings.metrics_exporter if name != "none"]
    billed = [name for name in _BILLED if name in names]
    if billed:
        yield from _billed(billed, settings)
    if settings.insights and set(names) - set(billed):
        from spanwell.analysis.names import MAX_SERIES
        from spanwell.export.cloudwatch_names import DOLLARS

        yield (
            "ok",
            f"spanwell's own metrics have at most {MAX_SERIES:,} series for each process, the rest counts as `other`;"
            f" as CloudWatch metrics that many cost about ${MAX_SERIES * DOLLARS:,.0f} a month",
        )
    if settings.wants_application_signals:
        yield _signals(settings, on_lambda)


def _billed(names: list[str], settings: Settings) -> Findings:
    from spanwell.export.cloudwatch_names import DOLLARS, NAMESPACE, most, parse

    problems: list[str] = []
    chosen = parse(
        settings.cloudwatch_metrics,
        problems.append,
        dimensions=settings.metrics_dimensions,
        namespace=settings.metrics_namespace,
    )
    yield from (("problem", problem) for problem in problems)
    if not settings.insights and not _others(chosen):
        yield (
            "problem",
            f"OTEL_METRICS_EXPORTER={','.join(names)} sends what insights count: set SPANWELL_INSIGHTS=true",
        )
        return
    number = most(chosen)
    where = " and ".join(dict.fromkeys((NAMESPACE, chosen.namespace)) if chosen.metrics else (NAMESPACE,))
    patterns = [name for name in chosen.metrics if name.endswith("*")]
    beyond = (
        f", and one for each metric and set of dimensions that {', '.join(patterns)} stands for" if patterns else ""
    )
    for name in names:
        shown = f"for each service at most {number:,} metrics in {where}{beyond}"
        yield "ok", f"{name}: {shown}, about ${number * DOLLARS:,.2f} a month at ${DOLLARS:.2f} each"
    if len(names) > 1:
        yield "note", "cloudwatch and emf both send the same metrics: values count twice; choose one"
    if "emf" in names:
        yield "ok", f"emf: writes to {settings.emf_log_group or 'stdout'}; its events cost what log events cost"


def _others(chosen: Chosen) -> bool:
    """Whether anything is chosen that is there without insights."""
    return any(not name.startswith(("spanwell.entry.", "spanwell.dependency.")) for name in chosen.metrics)


def _signals(settings: Settings, on_lambda: bool) -> tuple[str, str]:
    from spanwell._otel.exporting import without_credentials
    from spanwell.analysis.names import MAX_SERIES

    if on_lambda:
        return "ok", "Application Signals: names on spans; on Lambda no metrics are sent, X-Ray makes them"
    endpoint = settings.application_signals_endpoint
    if endpoint.lower() == "none":
        return "ok", "Application Signals: names on spans, no metrics"
    return (
        "ok",
        f"Application Signals: metrics go to {without_credentials(endpoint)}, where a CloudWatch agent has to listen:"
        f" Latency, Error and Fault of at most {MAX_SERIES:,} sets of attributes for each process",
    )
