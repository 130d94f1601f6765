"""Secrets stay in the process: the last stage before the exporters takes them out of every part of a span.

Most texts of most spans hold no secret and come again and again. So an attribute key is judged once, a text that was
found clean is remembered, and a new one meets a few cheap tests before any rule of `secret_texts`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from spanwell import _guard
from spanwell._otel import spans
from spanwell.enrich.secret_names import MARK, has_stem, normal, secret_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

    from opentelemetry.sdk.trace import ReadableSpan

_MAX_KEYS = 4096
_MAX_CLEAN = 4096
_LONGEST_REMEMBERED = 512
_MAX_DEPTH = 32

_NUMBERS: frozenset[type] = frozenset((bool, int, float, type(None)))

# Values that a library or the platform chooses from a few; nothing of a request gets there.
_HARMLESS = frozenset(
    (
        *("http.method", "http.request.method", "http.scheme", "url.scheme", "http.flavor", "http.route"),
        *("http.status_code", "http.response.status_code", "network.protocol.name", "network.protocol.version"),
        *("network.transport", "network.type", "net.transport", "net.peer.port", "net.host.port", "server.port"),
        *("rpc.system", "rpc.service", "rpc.method", "db.system", "db.system.name", "db.operation"),
        *("db.operation.name", "messaging.system", "messaging.operation", "messaging.operation.name"),
        *("messaging.operation.type", "cloud.region", "aws.region", "faas.trigger", "faas.coldstart"),
        *("error.type", "exception.type"),
    )
)
_STATEMENTS = ("db.query.text", "db.statement")
# The application names a user there on purpose.
_PEOPLE = ("user.", "enduser.")


class _Scan:
    """How the values under some keys are looked at, and which texts under them were found clean.

    plain: the types that are left as they are. personal, statement: as for `secret_texts.redact`.
    """

    __slots__ = ("clean", "personal", "plain", "statement")

    def __init__(self, *, personal: bool = True, statement: bool = False, plain: frozenset[type] = _NUMBERS) -> None:
        self.clean: set[str] = set()
        self.personal = personal
        self.statement = statement
        self.plain = plain


_LEAVE = _Scan()
_BLANK = _Scan(plain=frozenset((type(None),)))
_DROP = _Scan(plain=frozenset())


class Redaction:
    """A stage that replaces what is secret in an ended span by `[redacted]`; put it last.

    `drop_keys`: attributes that are removed altogether. `keep_keys`: attributes that are left alone; of both, `*`
    at the end stands for anything, and upper or lower case is the same. `patterns`: regular expressions of
    further secrets: what their first group matches is replaced, or all of it where they have no group. `report`
    gets one line for each pattern that cannot be used.

    Never changes an object of the application. A text that cannot be searched is replaced as a whole.
    """

    def __init__(
        self,
        *,
        drop_keys: Iterable[str] = (),
        keep_keys: Iterable[str] = (),
        patterns: Iterable[str] = (),
        report: Callable[[str], object] | None = None,
    ) -> None:
        self._drop = [key.lower() for key in drop_keys]
        self._keep = [key.lower() for key in keep_keys]
        self._patterns: list[re.Pattern[str]] = []
        self._rules: ModuleType | None = None
        patterns = list(patterns)
        if patterns:
            self._patterns = self._loaded().custom(patterns, report or _said)
        self._text = _Scan()
        self._statement = _Scan(statement=True)
        self._person = _Scan(personal=False)
        self._scans: dict[str, _Scan] = {}

    def on_end(self, span: ReadableSpan) -> None:
        """Redact the name, the status, attributes, events and links of `span`."""
        name, description, attributes, events, links = spans.parts(span)
        clean = self._text.clean
        if name not in clean and (found := self._searched(self._text, name)) is not name:
            spans.rename(span, found)
        if description and (found := self.text(description)) is not description:
            spans.describe_status(span, found)
        if attributes and (changed := self._changed(attributes)) is not None:
            spans.replace_attributes(span, changed)
        if events:
            self._events(span, events)
        if links:
            self._links(span, links)

    def attributes(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        """`attributes` without secrets; the same object when there are none."""
        changed = self._changed(attributes)
        return attributes if changed is None else changed

    def text(self, text: str) -> str:
        """`text` without secrets; the same object when there are none."""
        return text if text in self._text.clean else self._searched(self._text, text)

    def _changed(self, attributes: Mapping[str, Any]) -> dict[str, Any] | None:
        changes: dict[str, Any] | None = None
        scans = self._scans
        for key, value in attributes.items():
            scan = scans.get(key) or self._judged(key)
            if scan is _LEAVE:
                continue
            kind = value.__class__
            if kind is str:
                if value in scan.clean:
                    continue
            elif kind in scan.plain:
                continue
            redacted = self._value(scan, value, 0)
            if redacted is not value or scan is _DROP:
                changes = {} if changes is None else changes
                changes[key] = redacted
        if changes is None:
            return None
        merged = {**attributes, **changes}
        for key in changes:
            if self._judged(key) is _DROP:
                del merged[key]
        return merged

    def _judged(self, key: str) -> _Scan:
        scan = self._scans.get(key)
        if scan is None:
            scan = self._judge(str(key).lower())
            if len(self._scans) < _MAX_KEYS:
                self._scans[key] = scan
        return scan

    def _judge(self, key: str) -> _Scan:
        if _listed(key, self._drop):
            return _DROP
        if _listed(key, self._keep):
            return _LEAVE
        if key in _HARMLESS and not self._patterns:
            return _LEAVE
        if secret_key(normal(key)):
            return _BLANK
        if key in _STATEMENTS:
            return self._statement
        return self._person if key.startswith(_PEOPLE) else self._text

    def _value(self, scan: _Scan, value: Any, depth: int) -> Any:
        """`value` redacted, or itself. Deeper than 32 levels nobody looks, so nothing gets out either."""
        if depth > _MAX_DEPTH:
            return MARK
        if scan is _BLANK:
            return _blank(value)
        if isinstance(value, str):
            return value if value in scan.clean else self._searched(scan, value)
        if isinstance(value, bytes):
            # Latin-1 gives every byte a character and every character its byte back.
            text = value.decode("latin-1")
            redacted = self._searched(scan, text)
            return value if redacted is text else redacted.encode("latin-1", "replace")
        if isinstance(value, Mapping):
            return self._mapping(scan, value, depth)
        if isinstance(value, Sequence):
            items = [self._value(scan, item, depth + 1) for item in value]
            same = all(new is old for new, old in zip(items, value, strict=False))
            return value if same else tuple(items)
        return value

    def _mapping(self, scan: _Scan, value: Mapping[Any, Any], depth: int) -> Any:
        made: dict[Any, Any] = {}
        same = True
        for key, item in value.items():
            own = self._judged(key)
            if own is _DROP:
                same = False
                continue
            made[key] = self._value(own if own is _BLANK else scan, item, depth + 1)
            same = same and made[key] is item
        return value if same else made

    def _events(self, span: ReadableSpan, events: Sequence[Any]) -> None:
        changed = [self._event(event) for event in events]
        if any(new is not old for new, old in zip(changed, events, strict=False)):
            spans.replace_events(span, changed)

    def _event(self, event: Any) -> Any:
        name = self.text(event.name)
        attributes = self._changed(event.attributes or {})
        if name is event.name and attributes is None:
            return event
        return spans.event_with(event, name, attributes)

    def _links(self, span: ReadableSpan, links: Sequence[Any]) -> None:
        changed = []
        for link in links:
            attributes = self._changed(link.attributes) if link.attributes else None
            changed.append(link if attributes is None else spans.link_with(link, attributes))
        if any(new is not old for new, old in zip(changed, links, strict=False)):
            spans.replace_links(span, changed)

    def _searched(self, scan: _Scan, text: str) -> str:
        """`text` redacted, or the same object. Fails closed: better no text than a secret."""
        try:
            redacted = text
            if suspicious(text, statement=scan.statement):
                redacted = self._loaded().redact(text, personal=scan.personal, statement=scan.statement)
            for pattern in self._patterns:
                redacted = self._loaded().apply(pattern, redacted)
        except Exception as error:
            if _guard.strict:
                raise
            _guard.failed("redaction", error)
            return MARK
        if redacted != text:
            return redacted
        if len(text) <= _LONGEST_REMEMBERED:
            if len(scan.clean) >= _MAX_CLEAN:
                scan.clean.clear()
            scan.clean.add(text)
        return text

    def _loaded(self) -> Any:
        """The rules; their module compiles two dozen regular expressions, so it waits until one is needed."""
        if self._rules is None:
            from spanwell.enrich import secret_texts

            self._rules = secret_texts
        return self._rules


_CARD = re.compile(r"(?<![0-9A-Za-z])[2-6][0-9]{3}(?:(?:[ +-]|%20)?[0-9]){9}")
_CARD_LIKE = re.compile(r"[2-6][0-9 +%-]{12}")


def suspicious(text: str, *, statement: bool = False) -> bool:
    """Whether any rule for texts could find something in `text`; False is certain."""
    if "@" in text or "%40" in text:
        return True
    low = text.lower()
    if ("=" in text or ":" in text or statement or "%3" in text or "(" in text) and has_stem(low):
        return True
    if len(text) < 13:
        return False
    if _CARD_LIKE.search(text) is not None and _CARD.search(text) is not None:
        return True
    # Random tokens have upper case; most paths and ids have none.
    return (low != text and _has_shape(text)) or (
        (" " in text or "+" in text or "%20" in text) and ("bearer" in low or "basic" in low)
    )


def _has_shape(text: str) -> bool:
    """Whether a token that is known by how it starts could be in `text`."""
    return (
        "IA" in text  # AKIA, ASIA, ABIA
        or "eyJ" in text
        or "-----B" in text
        or "IQoJb3" in text
        or "oGZXIv" in text
        or "ghp_" in text
        or "gho_" in text
        or "ghs_" in text
        or "_pat_" in text
        or "glpat-" in text
        or "xox" in text
        or "AIza" in text
        or "k_live_" in text
    )


def _blank(value: Any) -> Any:
    if value is None or value == "" or value == MARK:
        return value
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return tuple(_blank(item) for item in value) if any(_blank(item) is not item for item in value) else value
    return MARK


def _listed(key: str, patterns: list[str]) -> bool:
    return any(key.startswith(each[:-1]) if each.endswith("*") else key == each for each in patterns)


def _said(line: str) -> None:
    _guard.warn_once(f"redaction:{line}", "spanwell: %s", line)
