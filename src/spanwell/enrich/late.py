"""A resource whose last attributes arrive after the start: detection goes on while the application starts."""

from __future__ import annotations

import threading

from opentelemetry.sdk.resources import Resource

from spanwell import _guard
from spanwell._children import in_child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class Detection:
    """Attributes known now, and more of them once `work` is done in a daemon thread.

    `work` must be bounded; without it the detection is done at once and no thread is started. `on_ready`, if
    given, is called once with all attributes: in that thread, or here when there is no work. After a fork an
    unfinished detection starts anew in the child; a finished one is kept.
    """

    def __init__(
        self,
        known: Mapping[str, object],
        work: Callable[[], Mapping[str, object]] | None,
        on_ready: Callable[[Mapping[str, object]], None] | None = None,
    ) -> None:
        self._attributes = dict(known)
        self._work = work
        self._on_ready = on_ready
        self._done = threading.Event()
        if work is None:
            self._finish({})
            return
        self._start()
        in_child(self._after_fork)

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self._done.is_set()

    @property
    def attributes(self) -> Mapping[str, object]:
        """What is known so far: a new dict replaces it once, so what was handed out never changes."""
        return self._attributes

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for the rest; whether it is here. For export threads, not for requests."""
        return self._done.wait(seconds)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name="spanwell-resource", daemon=True).start()
        except RuntimeError:
            # No thread to be had, as at interpreter exit: what is known must do.
            self._finish({})

    def _run(self) -> None:
        more: Mapping[str, object] = {}
        with _guard.guard("resource detection"):
            more = self._work() if self._work else {}
        self._finish(more)

    def _finish(self, more: Mapping[str, object]) -> None:
        self._attributes = {**self._attributes, **more}
        self._done.set()
        if self._on_ready is not None:
            with _guard.guard("resource detection"):
                self._on_ready(self._attributes)

    def _after_fork(self) -> None:
        if self._done.is_set():
            return
        # The parent's thread does not exist here and may have held the event's lock.
        self._done = threading.Event()
        with _guard.guard("resource detection"):
            self._start()


class LateResource(Resource):
    """`base` with the attributes of `detection` under it: what `base` has is never overwritten.

    Reading never waits: until the detection is done the local part is seen, from then on all of it. Whoever
    exports calls `complete(seconds)` first. Two of these are equal only when they are one object, and the
    hash never changes, so that one may be a dictionary's key before and after (and grouping spans by resource
    does not serialise all attributes for every span). `merge` gives another one that completes itself likewise.
    """

    def __init__(self, base: Resource, detection: Detection) -> None:
        self._base = base
        self._detection = detection
        self._whole = detection.done
        self._fill()

    def complete(self, seconds: float) -> bool:
        """Wait at most `seconds` until every attribute is here; whether it is."""
        return self._detection.wait(seconds)

    @property
    def attributes(self) -> Any:
        """The attributes known by now, as an immutable mapping."""
        if not self._whole and self._detection.done:
            # Threads that meet here do the same work twice, with the same result.
            self._fill()
            self._whole = True
        return super().attributes

    def merge(self, other: Resource) -> Resource:
        """As `Resource.merge`; the detection's attributes stay under both."""
        return LateResource(self._base.merge(other), self._detection)

    def to_json(self, indent: int | None = 4) -> str:
        """As `Resource.to_json`, with the attributes known by now."""
        return Resource(self.attributes, self.schema_url).to_json(indent)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return object.__hash__(self)

    def _fill(self) -> None:
        merged: Any = {**self._detection.attributes, **self._base.attributes}
        super().__init__(merged, self._base.schema_url)
