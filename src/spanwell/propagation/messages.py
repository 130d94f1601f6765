"""`Messages`: a received batch, a plain list to everyone, that opens a span per message in a loop over it.

    for message in response["Messages"]:  # a `process` span is current in the body
        handle(message)

The span ends at the next step of the loop, at `break`, `return` or an exception (the interpreter drops the
iterator then), or after the reaper's limit. What went wrong in the body is not visible to an iterator, so the
span's status is left alone.

Not every iteration is processing. `list(messages)`, `sorted(...)`, unpacking and C encoders make the iterator
and step it within one bytecode instruction, a loop does not: `_Iteration` compares the two places. The loops
of libraries that only look at data (json with an indent, boto3's resources through jmespath, error reporters)
are known by name.
"""

from __future__ import annotations

import sys
import threading
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR

from opentelemetry.context import attach, create_key, get_current, get_value, set_value

from spanwell._guard import failed, guard
from spanwell.propagation.reaper import reaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import CodeType, FrameType
    from typing import Any, SupportsIndex

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    Message = dict[str, Any]
    Opener = Callable[[Message, str | None], tuple[Span, Context]]

_MARK = create_key("spanwell-process-span")
_LOOKERS_ON = frozenset(
    (
        *("aiobotocore", "boto3", "botocore", "jmespath", "moto"),
        *("attr", "copy", "dataclasses", "json", "jsonpickle", "msgpack", "pickle", "simplejson", "yaml"),
        *("IPython", "_pytest", "pprint", "reprlib", "rich"),
        # Error reporters serialise the local variables of every frame.
        *("bugsnag", "elasticapm", "rollbar", "sentry_sdk"),
    )
)
_SUSPENDS = CO_GENERATOR | CO_ASYNC_GENERATOR


class Messages(list["Message"]):
    """The messages of one response. Each gives a span the first time a loop reaches it, in this list only:
    copies and slices are plain lists.

    `opener(message, header)` starts the span of a message and returns it with the context to make current;
    `headers` are the trace headers of `items`, in order.
    """

    __slots__ = ("_opener", "_pending")

    def __init__(
        self, items: Iterable[Message] = (), opener: Opener | None = None, headers: Iterable[str | None] = ()
    ) -> None:
        super().__init__(items)
        self._opener = opener
        # By identity, so that sorting, deleting and inserting keep message and header together; holding the
        # message keeps its id from being given to another object.
        self._pending: dict[int, tuple[Message, str | None]] = {}
        for message, header in zip(self[:], headers, strict=False):
            self._pending[id(message)] = (message, header)

    def __iter__(self) -> Iterator[Message]:
        return self._processing(super().__iter__(), sys._getframe(1))

    def __reversed__(self) -> Iterator[Message]:
        return self._processing(super().__reversed__(), sys._getframe(1))

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return list, (self[:],)

    def _processing(self, steps: Iterator[Message], frame: FrameType) -> Iterator[Message]:
        if not self._pending or self._opener is None:
            return steps
        if str(frame.f_globals.get("__name__")).partition(".")[0] in _LOOKERS_ON:
            return steps
        return _Iteration(steps, self._pending, self._opener, (id(frame), frame.f_lasti))


class _Mark:
    """Stands in the context of one open process span, and so in every context derived from it."""

    __slots__ = ("open", "outer")

    outer: _Mark | None
    open: bool

    def __init__(self, outer: _Mark | None) -> None:
        while outer is not None and not outer.open:
            outer = outer.outer
        self.outer = outer
        self.open = True


class _Iteration:
    """One pass over a `Messages`. Holds no frame: a cycle would keep `break` from ending the span."""

    __slots__ = (
        "_ambient",
        "_code",
        "_drained",
        "_frame_id",
        "_key",
        "_made_at",
        "_mark",
        "_opener",
        "_pending",
        "_steps",
        "_thread",
    )

    def __init__(
        self,
        steps: Iterator[Message],
        pending: dict[int, tuple[Message, str | None]],
        opener: Opener,
        made_at: tuple[int, int],
    ) -> None:
        self._steps = steps
        self._pending = pending
        self._opener = opener
        self._made_at = made_at
        self._drained: bool | None = None
        self._mark: _Mark | None = None
        self._ambient: Context
        self._key: int
        self._thread: int
        self._frame_id: int
        self._code: CodeType

    def __iter__(self) -> _Iteration:
        return self

    def __next__(self) -> Message:
        frame = sys._getframe(1)
        if self._drained is None:
            self._drained = self._made_at == (id(frame), frame.f_lasti)
        if self._mark is not None:
            self._finish(frame, final=False)
        message = next(self._steps)
        if not self._drained:
            entry = self._pending.pop(id(message), None)
            if entry is not None:
                self._begin(message, entry[1], frame)
        return message

    def __length_hint__(self) -> int:
        return self._steps.__length_hint__()  # type: ignore[attr-defined, no-any-return]

    def __del__(self) -> None:
        if self._mark is None:
            return
        try:
            self._finish(sys._getframe(1), final=True)
        except Exception as error:  # at interpreter shutdown anything may be gone
            if failed is not None:
                failed("end of a process span", error)

    def _begin(self, message: Message, header: str | None, frame: FrameType) -> None:
        with guard("process span"):
            span, context = self._opener(message, header)
            ambient = get_current()
            outer = get_value(_MARK, ambient)
            mark = _Mark(outer if isinstance(outer, _Mark) else None)
            self._key = reaper.watch(span)
            self._ambient = ambient
            self._thread = threading.get_ident()
            self._frame_id, self._code = id(frame), frame.f_code
            self._mark = mark
            attach(set_value(_MARK, mark, context))

    def _finish(self, frame: FrameType, *, final: bool) -> None:
        mark, self._mark = self._mark, None
        if mark is None:
            return
        same_loop = id(frame) == self._frame_id and frame.f_code is self._code
        with guard("end of a process span"):
            if self._ours(mark, same_loop, final):
                # Not `detach`: its token is refused after a change of thread or task, and logged as an error.
                attach(self._ambient)
            mark.open = False
            if final and not same_loop:
                reaper.hand_over(self._key)
            else:
                reaper.end(self._key)

    def _ours(self, mark: _Mark, same_loop: bool, final: bool) -> bool:
        """Whether the current context is ours to replace.

        It is when it derives from the message's, which covers a body that attached more and did not detach.
        A foreign context is replaced only in the loop's own frame, and not in a generator's, whose caller may
        have moved on: elsewhere, as in a late garbage collection, it belongs to unrelated work.
        """
        if final and threading.get_ident() != self._thread:
            return False  # garbage, found by a thread that may work in a copy of the message's context
        if same_loop and not self._code.co_flags & _SUSPENDS:
            return True
        found = get_value(_MARK)
        while isinstance(found, _Mark):
            if found is mark:
                return True
            found = found.outer
        return False
