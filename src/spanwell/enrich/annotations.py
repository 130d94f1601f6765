"""Annotations: the attributes by which X-Ray finds a trace (`annotation.customer = "7"`).

Which attributes those are stands in a list on the span, `aws.xray.annotations`; X-Ray keeps the rest as metadata,
which cannot be searched for.
"""

from __future__ import annotations

from spanwell._guard import guard, warn_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan

    from spanwell.enrich.attributes import Keys

LIST = "aws.xray.annotations"

MAX_ANNOTATIONS = 50
"""So many X-Ray indexes of a trace."""

_SCALARS: tuple[type, ...] = (str, bool, int, float)
_MAX_KEY = 250


def annotate(key: str, value: str | bool | int | float) -> None:
    """Set attribute `key` of the current span, and have X-Ray index it.

    Only the current span gets it: X-Ray finds a trace by an annotation of any of its spans, and each counts towards
    the 50 of the trace. Outside a span that records nothing happens. Never raises: another type of value is set as
    text, and a key that is no text, is empty or longer than 250 characters is reported once.
    """
    with guard("annotate"):
        if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY:
            warn_once(
                "annotate:key", "spanwell: annotate() needs a key of 1 to 250 characters, got %.60r; left out", key
            )
            return
        from opentelemetry.trace import get_current_span

        span = get_current_span()
        if not span.is_recording():
            return
        span.set_attribute(key, value if isinstance(value, _SCALARS) else str(value))
        listed = _listed((getattr(span, "attributes", None) or {}).get(LIST))
        if key not in listed and len(listed) < MAX_ANNOTATIONS:
            span.set_attribute(LIST, (*listed, key))


class Annotations:
    """A part of `Ended` that lists the attributes whose keys the user wants indexed, 50 at most."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def __call__(self, span: ReadableSpan, attributes: dict[str, Any]) -> bool:
        """Extend the list by what the span has; lists and maps cannot be indexed."""
        found = [key for key in self._keys.among(attributes) if isinstance(attributes[key], _SCALARS) and key != LIST]
        if not found:
            return False
        listed = _listed(attributes.get(LIST))
        attributes[LIST] = tuple(dict.fromkeys((*listed, *found)))[:MAX_ANNOTATIONS]
        return True


def _listed(value: Any) -> tuple[str, ...]:
    return tuple(key for key in value if isinstance(key, str)) if isinstance(value, (list, tuple)) else ()
