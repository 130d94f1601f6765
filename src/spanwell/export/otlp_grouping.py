"""Encoded spans as requests: grouped by resource and scope, split by bytes and by number."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    Item = tuple[Resource, InstrumentationScope | None, bytes]
    """A span that waits: its resource, which may get attributes until it is sent, its scope, the encoded span."""
    Groups = dict[bytes, dict[bytes, list[bytes]]]
    """Encoded resource -> encoded scope -> encoded spans, each in the order in which they came."""


class Part(NamedTuple):
    """A request and the items in it, which are neighbours among those given."""

    body: bytes
    items: Sequence[Item]


class Layout:
    """How a request is put together in one encoding.

    `resource` and `scope` encode one of them with all that stands beside what it groups; `join` makes the request
    of groups. Beside these bytes a resource or a scope needs at most `around_group`, a span `around_span` and the
    request `around` bytes.
    """

    def __init__(
        self,
        resource: Callable[[Any], bytes],
        scope: Callable[[Any], bytes],
        join: Callable[[Groups], bytes],
        *,
        around_group: int,
        around_span: int = 0,
        around: int = 0,
    ) -> None:
        self.resource = resource
        self.scope = scope
        self.join = join
        self.around_group = around_group
        self.around_span = around_span
        self.around = around

    def request(self, items: Iterable[Item]) -> bytes:
        """All of `items` as one request."""
        for part in self.requests(items):
            return part.body
        return self.join({})

    def requests(self, items: Iterable[Item], *, max_bytes: float = inf, max_spans: float = inf) -> Iterator[Part]:
        """`items` as requests of at most `max_bytes` bytes, unless one span alone needs more, and `max_spans` spans.

        Their order is kept: the parts are consecutive. Each is made when it is asked for, and resources and scopes
        are encoded once, then.
        """
        known: dict[int, tuple[Any, bytes]] = {}
        part = _Part(self, known)
        for item in items:
            if len(part.items) >= max(1, max_spans) or not part.add(item, max_bytes):
                yield part.made()
                part = _Part(self, known)
                part.add(item, inf)
        if part.items:
            yield part.made()


class _Part:
    """A request that is being filled. `known`: encoded resources and scopes by identity; holding them keeps it so."""

    def __init__(self, layout: Layout, known: dict[int, tuple[Any, bytes]]) -> None:
        self._layout = layout
        self._known = known
        self._size = layout.around
        self._groups: Groups = {}
        self._lists: dict[tuple[int, int], list[bytes]] = {}
        self.items: list[Item] = []

    def add(self, item: Item, max_bytes: float) -> bool:
        """Take `item`; False, and nothing more is to come, if the request has others and would be too long."""
        resource, scope, span = item
        size = self._size + len(span) + self._layout.around_span
        spans = self._lists.get((id(resource), id(scope)))
        if spans is None:
            spans, more = self._group(resource, scope)
            size += more
        if size > max_bytes and self.items:
            return False
        self._size = size
        self.items.append(item)
        spans.append(span)
        return True

    def _group(self, resource: Any, scope: Any) -> tuple[list[bytes], int]:
        """The spans of `scope` in `resource` so far, and by how much the request grows with the first of them."""
        more = 0
        of_resource = self._encoded(resource, self._layout.resource)
        of_scope = self._encoded(scope, self._layout.scope)
        scopes = self._groups.get(of_resource)
        if scopes is None:
            scopes = self._groups[of_resource] = {}
            more += len(of_resource) + self._layout.around_group
        spans = scopes.get(of_scope)
        if spans is None:
            spans = scopes[of_scope] = []
            more += len(of_scope) + self._layout.around_group
        self._lists[id(resource), id(scope)] = spans
        return spans, more

    def _encoded(self, thing: Any, encode: Callable[[Any], bytes]) -> bytes:
        known = self._known.get(id(thing))
        if known is None:
            known = self._known[id(thing)] = (thing, encode(thing))
        return known[1]

    def made(self) -> Part:
        # The group of the item that was too much may be empty.
        groups = {
            resource: {scope: spans for scope, spans in scopes.items() if spans}
            for resource, scopes in self._groups.items()
            if any(scopes.values())
        }
        return Part(self._layout.join(groups), self.items)
