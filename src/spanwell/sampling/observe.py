"""The samplers' own metrics: what was decided, how old the rules are, what did not fit."""

from __future__ import annotations

from spanwell.sampling.parentbased import RootSampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.sdk.trace.sampling import Sampler

    from spanwell.sampling.quiet import Watch

    Observe = Callable[[CallbackOptions], Iterable[Observation]]


def register(meter: Meter, sampler: Sampler) -> None:
    """Instruments for `sampler` and those nested in it, read whenever the meter collects."""
    from opentelemetry.metrics import Observation

    def decisions(_options: CallbackOptions) -> Iterator[Observation]:
        for each in family(sampler):
            for (rule, reason), number in each.decisions.snapshot().items():
                attributes = {"spanwell.sampler": each.kind, "spanwell.sampling.reason": reason}
                yield Observation(number, {**attributes, "aws.xray.sampling_rule": rule} if rule else attributes)

    def figure(name: str) -> Observe:
        def observe(_options: CallbackOptions) -> Iterator[Observation]:
            for each in family(sampler):
                for attributes, value in each.figures().get(name, ()):
                    yield Observation(value, {"spanwell.sampler": each.kind, **attributes})

        return observe

    meter.create_observable_counter(
        "spanwell.sampling.decisions", [decisions], "{decision}", "Sampling decisions on local roots, by reason"
    )
    meter.create_observable_gauge(
        "spanwell.sampling.rules.age", [figure("rules.age")], "s", "Time since the sampling rules were refreshed"
    )
    meter.create_observable_counter(
        "spanwell.sampling.polls.failed", [figure("polls.failed")], "{poll}", "Polls for rules or targets that failed"
    )
    meter.create_observable_counter(
        "spanwell.sampling.evictions", [figure("evictions")], "{trace}", "Traces that fell to their head decision"
    )
    meter.create_observable_gauge(
        "spanwell.sampling.held", [figure("held")], "{span}", "Ended spans that wait for their trace's verdict"
    )


def count_quiet(meter: Meter, watch: Watch) -> None:
    """An instrument for the spans that were left out because they went well."""
    from opentelemetry.metrics import Observation

    def suppressed(_options: CallbackOptions) -> Iterator[Observation]:
        for label, number in watch.counts().items():
            yield Observation(number, {"spanwell.quiet": label})

    meter.create_observable_counter(
        "spanwell.quiet.suppressed", [suppressed], "{span}", "Spans left out because they went well, by kind"
    )


def family(sampler: Sampler) -> Iterator[RootSampler]:
    """`sampler` and those nested in it, as far as they are ours."""
    if isinstance(sampler, RootSampler):
        yield sampler
        for nested in sampler.nested():
            yield from family(nested)
