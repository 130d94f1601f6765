"""A sampler from its name and argument, nested ones included."""

from __future__ import annotations

import time

from spanwell._otel import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.trace.sampling import Sampler

    from spanwell.sampling.arguments import Nested, Report


class Making:
    """What a sampler's `from_argument(argument, making)` may use.

    report: takes one line about an argument that cannot be used. adaptive: the text of
    AWS_XRAY_ADAPTIVE_SAMPLING_CONFIG, or "". clock: seconds that run steadily. instead: makers that
    take the place of ours, by name.
    """

    def __init__(
        self,
        report: Report,
        *,
        adaptive: str = "",
        clock: Callable[[], float] = time.monotonic,
        instead: Mapping[str, Callable[[str, Making], Sampler]] | None = None,
    ) -> None:
        self.report = report
        self.adaptive = adaptive
        self.clock = clock
        self.instead = instead or {}

    def nested(self, wanted: Nested, default: Sampler) -> Sampler:
        """The sampler that an argument names; `default`, reported, when there is none of that name."""
        try:
            return make(wanted.name, wanted.argument, self)
        except Exception as error:
            said = " ".join(str(error).split())[:300] or type(error).__name__
            self.report(f"sampler {wanted.name!r}: {said}; using {default.get_description()}")
            return default


def make(name: str, argument: str, making: Making) -> Sampler:
    """Our, the SDK's or an installed package's sampler. Raises what its maker raises; LookupError for none."""
    if name in making.instead:
        return making.instead[name](argument, making)
    if name in OURS:
        from importlib import import_module

        module = import_module(f"spanwell.sampling.{OURS[name]}")
        return module.from_argument(argument, making)  # type: ignore[no-any-return]
    known = registry.known_sampler(name.lower(), argument)
    if known is not None:
        return known
    return registry.load_entry_point("opentelemetry_traces_sampler", name)(argument or None)  # type: ignore[no-any-return]


OURS = {
    "xray": "remote",
    "xray_local": "local",
    "tail": "tail",
    "budget": "budget",
    "ratio": "ratio",
}
"""Name -> the module of this package whose `from_argument` makes it."""
