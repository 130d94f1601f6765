"""OTEL_PROPAGATORS -> the global propagator; under spanwell the plain name `xray` means our own codec."""

from __future__ import annotations

from spanwell._guard import warn_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from opentelemetry.propagators.textmap import TextMapPropagator

    from spanwell.settings import Settings


def set_propagators(settings: Settings) -> None:
    """Set the global propagator, and the one for responses where an X-Ray header may ask for the decision.

    OTEL_PROPAGATORS itself would be read too late: `opentelemetry.propagate` builds its global when it is
    imported, before any distro is loaded (opentelemetry-python #4679).
    """
    wanted = [name.lower() for name in settings.propagators]
    if "none" in wanted:
        wanted = []
    made = [propagator for name in dict.fromkeys(wanted) if (propagator := _make(name)) is not None]
    install(made)
    if "xray" in wanted or "spanwell_xray" in wanted:
        _answer_xray()


def install(propagators: list[TextMapPropagator]) -> None:
    """Make `propagators` the global one.

    Upstream's composite of none extracts None instead of a context, and the next get_current fails in the
    application; one that carries nothing stands in. `tracecontext` directly followed by our `xray` become one.
    """
    from opentelemetry.propagate import set_global_textmap
    from opentelemetry.propagators.composite import CompositePropagator

    from spanwell.propagation.codec import join

    set_global_textmap(CompositePropagator(join(propagators)) if propagators else _nothing())


def _nothing() -> TextMapPropagator:
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator

    class Nothing(TextMapPropagator):
        """Carries no context at all: OTEL_PROPAGATORS=none."""

        def extract(self, carrier: object, context: Context | None = None, getter: object = None) -> Context:
            return Context() if context is None else context

        def inject(self, carrier: object, context: Context | None = None, setter: object = None) -> None:
            return None

        @property
        def fields(self) -> set[str]:
            return set()

    return Nothing()


def _make(name: str) -> TextMapPropagator | None:
    if name == "baggage":
        from opentelemetry.baggage.propagation import W3CBaggagePropagator

        return W3CBaggagePropagator()
    if name == "tracecontext":
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        return TraceContextTextMapPropagator()
    if name in ("xray", "spanwell_xray"):
        return xray_propagator()
    from spanwell._otel.registry import load_entry_point

    try:
        return load_entry_point("opentelemetry_propagator", name)()  # type: ignore[no-any-return]
    except Exception as error:
        warn_once(f"propagator:{name}", "spanwell: OTEL_PROPAGATORS: %r is left out: %s", name, error)
        return None


def xray_propagator() -> TextMapPropagator:
    """Our codec; on Lambda the X-Ray header names the parent."""
    import os

    from spanwell.propagation.xray import XRayPropagator
    from spanwell.where import on_lambda

    return XRayPropagator(prefer_xray=on_lambda(os.environ))


def _answer_xray() -> None:
    from opentelemetry.instrumentation.propagators import (
        get_global_response_propagator,
        set_global_response_propagator,
    )

    from spanwell.propagation.response import XRayResponsePropagator

    if get_global_response_propagator() is None:  # type: ignore[no-untyped-call]
        set_global_response_propagator(XRayResponsePropagator())  # type: ignore[no-untyped-call]
