"""Stage: what can be derived of an ended span, in one go.

Writing on an ended span costs a new set of attributes each time, so the parts below this stage work on one copy,
which becomes the span's attributes if any of them changed it.
"""

from __future__ import annotations

from spanwell import _guard
from spanwell._otel import spans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeAlias

    from opentelemetry.sdk.trace import ReadableSpan

    Derive: TypeAlias = "Callable[[ReadableSpan, dict[str, Any]], bool]"


class Part:
    """One thing that can be derived, made when the first span needs it: most processes need few of them.

    `make` gives the function that changes a copy of a span's attributes and tells whether it did. It is called for
    spans that have one of `keys`, or for every span if there are none.
    """

    __slots__ = ("derive", "keys", "make", "name")

    def __init__(self, name: str, make: Callable[[], Derive], keys: Iterable[str] = ()) -> None:
        self.name = name
        self.make = make
        self.keys = frozenset(keys)
        self.derive: Derive | None = None


class Ended:
    """Runs `parts` in their order on an ended span. One that fails is counted and said once; the others go on."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._parts = tuple(parts)
        # Most spans need none of the parts. Empty where a part is for every span.
        self._keys = frozenset(key for part in self._parts for key in part.keys)
        if not all(part.keys for part in self._parts):
            self._keys = frozenset()

    def on_end(self, span: ReadableSpan) -> None:
        """Let every part add to the span's attributes."""
        attributes: Mapping[str, Any] = spans.attributes_of(span)
        has_none = attributes.keys().isdisjoint
        if self._keys and has_none(self._keys):
            return
        own = {**attributes}
        changed = False
        for part in self._parts:
            if part.keys and has_none(part.keys):
                continue
            try:
                if (part.derive or _made(part))(span, own):
                    changed = True
            except Exception as error:
                if _guard.strict:
                    raise
                _guard.failed(f"span attributes of {part.name}", error)
        if changed:
            spans.replace_attributes(span, own)


def _made(part: Part) -> Derive:
    part.derive = part.make()
    return part.derive
