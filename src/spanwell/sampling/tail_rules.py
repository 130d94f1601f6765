"""Which ended spans make a trace worth keeping."""

from __future__ import annotations

from opentelemetry.trace import StatusCode

from spanwell._otel.spans import attributes_of
from spanwell.sampling.glob import Glob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan

SERVER_ERRORS = ((500, 599),)


class Rules:
    """What `tail` keeps a trace for.

    errors: any span of the tree has the status ERROR; an exception that was only recorded is one that the
    application dealt with. slow_ms: any span of the tree took at least so many milliseconds; 0 for no such rule.
    status: the local root answered with an HTTP status within one of these (first, last) ranges. attributes: (key,
    glob) pairs; any span of the tree has an attribute of that key whose text, or that of one of its items if it is a
    list, the glob matches.
    """

    def __init__(
        self,
        *,
        errors: bool = True,
        slow_ms: float = 1000.0,
        status: Iterable[tuple[int, int]] = SERVER_ERRORS,
        attributes: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._errors = errors
        self.slow = slow_ms * 1e6 if slow_ms > 0 else float("inf")
        self._status = tuple(status)
        self.globs = tuple((key, Glob(pattern)) for key, pattern in attributes)

    def reason(self, span: ReadableSpan, is_root: bool) -> str:
        """Why this ended span makes its trace kept: error, status, slow or attribute; "" if it does not."""
        if self._errors and span.status.status_code is StatusCode.ERROR:
            return "error"
        if is_root and self._status and self._has_status(attributes_of(span)):
            return "status"
        if (span.end_time or 0) - (span.start_time or 0) >= self.slow:
            return "slow"
        if self.globs and self._has_attribute(attributes_of(span)):
            return "attribute"
        return ""

    def is_slow(self, seconds: float) -> bool:
        """Whether a span that has taken `seconds` by now will be slow when it ends."""
        return seconds * 1e9 >= self.slow

    def _has_status(self, attributes: Mapping[str, Any]) -> bool:
        code = attributes.get("http.response.status_code")
        if code is None:
            code = attributes.get("http.status_code")
            if code is None:
                return False
        try:
            number = int(code)
        except (TypeError, ValueError, OverflowError):
            return False
        return any(first <= number <= last for first, last in self._status)

    def _has_attribute(self, attributes: Mapping[str, Any]) -> bool:
        for key, glob in self.globs:
            value = attributes.get(key)
            if value is None:
                continue
            items = value if isinstance(value, (list, tuple)) else (value,)
            if any(glob.matches(str(item)) for item in items):
                return True
        return False
