"""What `spanwell doctor` finds out about the sampler: its argument, its rules, whether X-Ray answers."""

from __future__ import annotations

from spanwell._otel import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace.sampling import Sampler

    from spanwell.settings import Settings

SECONDS = 2.0
"""How long X-Ray may take to answer."""


def probe_sampler(settings: Settings, *, online: bool) -> Iterator[tuple[str, str]]:
    """The sampler and every fault of its argument; with `online` X-Ray's rules are asked for once."""
    from spanwell.sampling.build import OURS, Making, make

    name, argument = settings.sampler, settings.sampler_arg
    problems: list[str] = []
    try:
        if name in OURS:
            made = make(name, argument, Making(problems.append, adaptive=settings.adaptive_sampling))
        else:
            known = registry.known_sampler(name.lower(), argument)
            made = known or registry.load_entry_point("opentelemetry_traces_sampler", name)
    except Exception as error:
        yield "problem", f"sampler {name} (argument {argument!r}): {error}; parentbased_always_on is used"
        return
    yield "ok", f"sampler {name}" + (f" with argument {argument}" if argument else "")
    for problem in problems:
        yield "problem", problem
    if settings.adaptive_sampling and not _asks_xray(made):
        yield "note", "AWS_XRAY_ADAPTIVE_SAMPLING_CONFIG is set, but the sampler is not `xray`: it has no effect"
    if online and name in OURS:
        yield from _rules(made)


def _asks_xray(sampler: Sampler) -> bool:
    from spanwell.sampling.observe import family

    return any(each.kind == "xray" for each in family(sampler))


def _rules(sampler: Sampler) -> Iterator[tuple[str, str]]:
    from spanwell.sampling.observe import family
    from spanwell.sampling.remote import XRaySampler
    from spanwell.sampling.rules import parse

    for each in family(sampler):
        if not isinstance(each, XRaySampler):
            continue
        faults: list[str] = []
        try:
            found = parse(each.ask(SECONDS, faults.append), faults.append)
        except Exception as error:
            yield "problem", f"X-Ray's sampling rules: {error}; the fallback decides until they come"
            continue
        yield "ok", f"X-Ray's sampling rules: {len(found)} from {each.endpoint}"
        for fault in faults:
            yield "problem", f"X-Ray's sampling rules: {fault}"
