"""`xray`: X-Ray's centralized sampling. The rules come from the service, and it is told what they did."""

from __future__ import annotations

import time

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult

from spanwell._children import in_child
from spanwell.sampling.adaptive import CONFIGURED, RULE_HASH, Adaptive
from spanwell.sampling.arguments import nested, number
from spanwell.sampling.centralized import EXPIRY, Centralized
from spanwell.sampling.outcome import REASON, RULE
from spanwell.sampling.parentbased import RootSampler
from spanwell.sampling.polling import RULES, TARGETS, Poller
from spanwell.sampling.probability import randomness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import SpanContext, SpanKind, TraceState

    from spanwell.sampling.adaptive_config import Config
    from spanwell.sampling.build import Making
    from spanwell.sampling.parentbased import Surroundings
    from spanwell.sampling.polling import Client

ENDPOINT = "http://127.0.0.1:2000"
"""Where the X-Ray daemon, the CloudWatch agent and the collector's awsproxy listen."""

INTERVAL, SHORTEST_INTERVAL, LONGEST_INTERVAL = 300.0, 10.0, EXPIRY / 2
"""Seconds between refreshes of the rules; with longer ones a single failure would let the rules expire."""

_NOTHING: Mapping[str, Any] = {}
_ROOT = Context()  # without a span in it


class XRaySampler(RootSampler):
    """Decides by the rules of the X-Ray service, as long as they are at most an hour old; else by `fallback`.

    Asks at `endpoint` ("aws": X-Ray itself, signed, in `region`) every `interval` seconds, from a daemon thread that
    the first root starts. adaptive: the configuration of adaptive sampling, if any; rules that the service may boost
    are looked after without one. client: makes what asks, called in that thread.
    """

    kind = "xray"

    def __init__(
        self,
        fallback: Sampler,
        endpoint: str = ENDPOINT,
        *,
        region: str = "",
        interval: float = INTERVAL,
        adaptive: Config | None = None,
        client: Callable[[], Client] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        random: Callable[[], float] | None = None,
    ) -> None:
        super().__init__()
        self.central = Centralized(lambda: _NOTHING)
        self.consistent = isinstance(fallback, RootSampler) and fallback.consistent
        self.endpoint = endpoint
        self._make_client = client or (lambda: _client(endpoint, region))
        self._fallback = fallback
        self._clock = clock
        self._adaptive = Adaptive(adaptive, self.central, clock=clock)
        self.poller = Poller(
            self.central,
            self._make_client,
            interval=interval,
            clock=clock,
            wall=wall,
            random=random,
        )
        in_child(self._after_fork)

    def connect(self, around: Surroundings) -> None:
        """Learn the resource, which rules match too, and let adaptive sampling see the spans that end."""
        super().connect(around)
        self.central.resource = around.resource
        self._adaptive.connect(around)
        if isinstance(self._fallback, RootSampler):
            self._fallback.connect(around)

    def nested(self) -> tuple[Sampler, ...]:
        """The fallback."""
        return (self._fallback,)

    def figures(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """The age of the rules, once there are any, and failed polls by kind."""
        age = self.rules_age(self._clock())
        return {
            "rules.age": [] if age is None else [({}, age)],
            "polls.failed": [({"poll": what}, self.poller.failures[what]) for what in (RULES, TARGETS)],
        }

    def rules_age(self, now: float) -> float | None:
        """Seconds since the rules were refreshed; None if they never were."""
        return None if self.central.refreshed is None else now - self.central.refreshed

    def ask(self, seconds: float, report: Callable[[str], object]) -> list[object]:
        """The service's rules as they are now, for a report on the configuration. Raises what the client raises."""
        client = self._make_client()
        try:
            return client.rules(report, seconds=seconds)
        finally:
            client.close()

    @property
    def poll_failures(self) -> int:
        """How many polls of both kinds have failed in this process."""
        return sum(self.poller.failures.values())

    def begin_shutdown(self) -> None:
        """Report the last statistics."""
        self.poller.begin_shutdown()
        if isinstance(self._fallback, RootSampler):
            self._fallback.begin_shutdown()

    def finish(self, seconds: float) -> None:
        """Wait for them, at most `seconds` and a third of a second."""
        self.poller.finish(seconds)
        if isinstance(self._fallback, RootSampler):
            self._fallback.finish(seconds)

    def get_description(self) -> str:
        """Name and endpoint."""
        return f"xray{{{self.endpoint}}}"

    # --- decisions --------------------------------------------------------------------------------------------

    def decide(
        self,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        attributes: Mapping[str, Any] | None,
        state: TraceState | None,
    ) -> SamplingResult:
        """By the first rule that matches: its reservoir first, then its rate."""
        if self.poller.idle:
            self.poller.start()
        now = self._clock()
        central = self.central
        table = central.table
        if now >= table.expires:
            return self._fall_back(trace_id, name, kind, attributes, state)
        if table.resource is not central.resource():
            table = central.bound()
        index = table.rules.match(attributes)
        if index < 0:
            return self._fall_back(trace_id, name, kind, attributes, state)
        rule = table.states[index]
        pick = rule.pick(randomness(trace_id, state), now)
        reason = pick.reason
        carried = pick.combined(state) if state else pick.state
        self.decisions.add(rule.name, reason or "dropped")
        if not reason and not self._adaptive.records_root(rule.boosted):
            return SamplingResult(Decision.DROP, None, carried)
        written = {**attributes} if attributes else {}
        written[RULE] = rule.name
        if self._adaptive.configured:
            written[CONFIGURED] = True
        if not reason:
            return SamplingResult(Decision.RECORD_ONLY, written, carried)
        written[REASON] = reason
        return SamplingResult(Decision.RECORD_AND_SAMPLE, written, carried)

    def follow(self, parent: SpanContext, attributes: Mapping[str, Any] | None) -> SamplingResult:
        """The parent's decision; adaptive sampling may have to see spans that are not sampled."""
        if parent.is_remote:
            # Traces that another service has begun count for boosts as well, and this one may never see a root.
            if self.poller.idle and RULE_HASH in parent.trace_state:
                self.poller.start()
            if self._adaptive.configured:
                attributes = {**(attributes or {}), CONFIGURED: True}
        if not parent.trace_flags & 1 and self._adaptive.records_child(parent):
            return SamplingResult(Decision.RECORD_ONLY, attributes, parent.trace_state)
        return super().follow(parent, attributes)

    def _fall_back(
        self,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        attributes: Mapping[str, Any] | None,
        state: TraceState | None,
    ) -> SamplingResult:
        result = self._fallback.should_sample(_ROOT, trace_id, name, kind, attributes, None, state)
        records = result.decision is Decision.DROP and self._adaptive.records_root(False)
        sampled = result.decision is Decision.RECORD_AND_SAMPLE
        self.decisions.add("", "fallback" if sampled else "dropped")
        if not sampled and not records:
            return result
        written = dict(result.attributes or attributes or {})
        if sampled:
            written.setdefault(REASON, "fallback")
        if self._adaptive.configured:
            written[CONFIGURED] = True
        return SamplingResult(Decision.RECORD_ONLY if records else result.decision, written, result.trace_state)

    def _after_fork(self) -> None:
        self.central.after_fork()
        self.poller.after_fork()
        self.decisions.reset()


def from_argument(argument: str, making: Making) -> XRaySampler:
    """`endpoint=`, `region=`, `polling_interval=`, `rules_file=`, `fallback=`."""
    from spanwell.sampling.arguments import parse
    from spanwell.sampling.client import check_endpoint

    known: Mapping[str, Callable[[str], Any]] = {
        "endpoint": check_endpoint,
        "region": str,
        "polling_interval": number(what="a number of seconds"),
        "rules_file": str,
        "fallback": nested,
    }
    values = parse("xray", argument, known, making.report)
    interval = values.get("polling_interval", INTERVAL)
    used = min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, interval))
    if used != interval:
        limit = "less than" if used > interval else "more than"
        making.report(f"sampler xray: polling_interval={interval:g} is {limit} {used:g} seconds; using {used:g}")
    adaptive = None
    if making.adaptive:
        from spanwell.sampling.adaptive_config import read

        adaptive = read(making.adaptive, making.report)
    return XRaySampler(
        _fallback(values, making),
        values.get("endpoint", ENDPOINT),
        region=values.get("region", ""),
        interval=used,
        adaptive=adaptive,
        clock=making.clock,
    )


def _fallback(values: Mapping[str, Any], making: Making) -> Sampler:
    """What decides where the service's rules cannot: the rules of a file first, if there is one."""
    from spanwell.sampling.local import RulesSampler, standard_fallback
    from spanwell.sampling.rules_file import RulesFile

    last: Sampler = standard_fallback(making.clock)
    if "fallback" in values:
        last = making.nested(values["fallback"], last)
    if "rules_file" in values:
        rules = RulesFile(values["rules_file"], making.report).changed()
        if rules is not None:
            return RulesSampler(rules, last, clock=making.clock)
    return last


def _client(endpoint: str, region: str) -> Client:
    from spanwell.sampling.client import SamplingClient

    return SamplingClient(endpoint, region=region)
