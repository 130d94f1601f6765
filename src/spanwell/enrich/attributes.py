"""What the user wants on spans: attributes of their own on every span, and entries of the baggage.

An attribute that the application or an instrumentor has set stays as it is.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

_MAX_VALUE = 1024
_MAX_ENTRIES = 64


class Keys:
    """A list of attribute keys; `*` at the end of one stands for anything."""

    def __init__(self, keys: Iterable[str]) -> None:
        keys = [key for key in keys if key]
        self._exact = frozenset(key for key in keys if not key.endswith("*"))
        self._prefixes = tuple(key[:-1] for key in keys if key.endswith("*"))

    def __bool__(self) -> bool:
        return bool(self._exact or self._prefixes)

    def among(self, names: Mapping[str, Any]) -> list[str]:
        """Those of `names` that are listed, in their order."""
        exact, prefixes = self._exact, self._prefixes
        if prefixes:
            return [name for name in names if name in exact or name.startswith(prefixes)]
        return [] if exact.isdisjoint(names) else [name for name in names if name in exact]


class StaticAttributes:
    """A part of `Ended` that adds `attributes` to every span."""

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._attributes = dict(attributes)

    def __call__(self, span: ReadableSpan, attributes: dict[str, Any]) -> bool:
        """Add those that are missing."""
        before = len(attributes)
        for key, value in self._attributes.items():
            attributes.setdefault(key, value)
        return len(attributes) != before


class BaggageAttributes:
    """A stage that copies the listed entries of the baggage, and no other, to a span at its start.

    Baggage comes from whoever calls: a value is cut at 1024 characters, and of more than 64 entries the first are
    taken.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def on_start(self, span: Span, parent_context: Context | None) -> None:
        """Copy what the context of the span carries."""
        from opentelemetry.baggage import get_all

        entries = get_all(parent_context)
        if not entries:
            return
        own: Mapping[str, Any] = span.attributes or {}
        found = {
            key: str(entries[key])[:_MAX_VALUE] for key in self._keys.among(entries)[:_MAX_ENTRIES] if key not in own
        }
        if found:
            span.set_attributes(found)


def same_user(span: ReadableSpan, attributes: dict[str, Any]) -> bool:
    """A part of `Ended`: `user.id` is the convention's name for who is asking, `enduser.id` the one X-Ray reads."""
    new, old = "user.id" in attributes, "enduser.id" in attributes
    if new == old:
        return False
    if new:
        attributes["enduser.id"] = attributes["user.id"]
    else:
        attributes["user.id"] = attributes["enduser.id"]
    return True
