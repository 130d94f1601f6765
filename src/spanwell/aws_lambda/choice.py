"""Which invocations need the SDK. Pure, over the settings: imports nothing of OpenTelemetry.

Where spans go to X-Ray, its decision holds, and an invocation that it does not sample exports nothing. Anywhere else
the user's sampler is asked, whatever the header of the tracing mode PassThrough says.
"""

from __future__ import annotations

from spanwell.exporters import to_xray
from spanwell.propagation.trace_header import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spanwell.settings import Settings

ACTIVE = (
    "set the function's tracing mode to Active (`Tracing: Active` in SAM,"
    " `TracingConfig: {Mode: Active}` in CloudFormation)"
)


class Choice:
    """always: something else than sampled spans is exported. never: nothing is. xray: X-Ray's decision holds."""

    __slots__ = ("always", "never", "xray")

    def __init__(self, *, always: bool = False, never: bool = False, xray: bool = False) -> None:
        self.always = always
        self.never = never
        self.xray = xray

    def needs_sdk(self, header: str) -> bool:
        """Whether the invocation with this trace header may export anything."""
        if self.never:
            return False
        if self.always or not self.xray:
            return True
        found = parse(header)
        return found is None or found.sampled == "1"

    def why_nothing(self, header: str) -> str:
        """Said once a cold start: why nothing is exported, and what to do; "" where something may be."""
        if self.needs_sdk(header) or self.never:
            return ""
        found = parse(header)
        if found is not None and found.sampled == "0":
            return (
                f"X-Ray does not sample this invocation (Sampled=0), so it is not exported; if none ever is, {ACTIVE}"
            )
        return (
            "nothing is exported, because the tracing mode PassThrough leaves the decision open"
            f" (no Sampled=1): {ACTIVE}"
        )


def choose(settings: Settings) -> Choice:
    """The choice for one process. What a configuration file names is not known here."""
    exporters = {name for name in settings.traces_exporter if name != "none"}
    metrics = {name for name in settings.metrics_exporter if name != "none"}
    logs = any(name != "none" for name in settings.logs_exporter)
    always = bool(settings.config_file) or logs or bool(metrics - {"emf"}) or ("emf" in metrics and _own(settings))
    return Choice(always=always, never=not (always or exporters), xray=to_xray(settings))


def _own(settings: Settings) -> bool:
    """Whether metrics other than counts of insights are listed, which only the SDK can make."""
    return any("." in name or name.endswith("*") for name in settings.cloudwatch_metrics)
