"""`name=value`, `name: value`, `"name": "value"` and their relatives in a text: the values under secret names.

The text is walked once from name to name. Where a value ends is decided by what it stands in: a query, quotes, a
header line, brackets, or plain text. In doubt it is taken to be longer.
"""

from __future__ import annotations

import re

from spanwell.enrich.secret_names import (
    MARK,
    fills_the_line,
    normal,
    secret_anywhere,
    secret_when_assigned,
    shortest_in_query,
)

# The look-behind lets a word be tried at its start only, so that each is walked once.
_NAME = re.compile(
    r"(?<![\w.-])([\w.-]+)(\\{0,8}[\"']|%2[27])?[\])]?[ \t]{0,8}(=>|={1,3}|[!:]=|:|,|%3[aAdD])[ \t]{0,8}"
)
_OPEN_QUOTE = re.compile(r"[bBuUrRfF]{0,2}(\\{0,8})([\"'])")
_QUERY_VALUE = re.compile(r"[^&#\s\"'<>\\|`]*")
_PLAIN_VALUE = re.compile(r"[^\s&;\"'<>`]*")
_LINE = re.compile(r"[^\r\n]*")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_TAIL = ")]},.:"
_HEX = re.compile(r"[2-7][0-9a-fA-F]")

# What stands where a value was taken out already, or was never put in. As a source of secrets `:name` is credible in
# quotes and in a query, elsewhere it is a statement's parameter.
_EMPTY = r"[?*]+|%s|%\(\w+\)s|\{\w*\}|x{3,}|null|none|nil|true|false|undefined|redacted|[(\[{]"
_NO_VALUE = re.compile(rf"(?:{_EMPTY})?\Z", re.IGNORECASE)
_NO_PLAIN_VALUE = re.compile(rf"(?:{_EMPTY}|\$\d+|[:@]\w{{1,64}})?\Z", re.IGNORECASE)


def assignments(text: str) -> str:
    """`text` with `[redacted]` for every value under a secret name; the same object when there is none."""
    parts: list[str] = []
    at = 0
    for match in _NAME.finditer(text):
        if match.start() < at:
            continue
        span = _value(text, match)
        if span is None:
            continue
        start, end = span
        parts += [text[at:start], MARK]
        at = end
    return "".join([*parts, text[at:]]) if parts else text


def _value(text: str, match: re.Match[str]) -> tuple[int, int] | None:
    """Where the secret that `match` names starts and ends; None: it names none."""
    name, quoted_name, sign = match.groups()
    start = match.end()
    before = text[match.start() - 1] if match.start() else ""
    if before == "%" and _HEX.match(name):  # the end of `%26` or `%3F`
        name, before = name[2:], "&"
    name = normal(name)
    in_query = before != "" and before in "?&#"
    if text.startswith(MARK, start) or not _is_secret(name, match):
        return None
    if sign == ":" and before == ":" and not quoted_name:
        return None  # part of an ARN or of a key: `arn:aws:...:secret:name`
    opened = _OPEN_QUOTE.match(text, start)
    if sign == "," and not (quoted_name and opened and _in_pair(text, match.start())):
        return None
    if opened:
        return _in_quotes(text, opened)
    if in_query or shortest_in_query(name):
        return _in_query(text, start, name, sign, surely=in_query or not before)
    if fills_the_line(name) and not quoted_name:
        return _line(text, start, before)
    bracket = _BRACKETS.get(text[start : start + 1])
    if bracket and text[start + 1 : start + 2].strip():
        return _in_brackets(text, start, bracket)
    return _unquoted(text, start, _plain_end(text, start), _NO_PLAIN_VALUE if sign == "=" else _NO_VALUE)


def _is_secret(name: str, match: re.Match[str]) -> bool:
    if secret_anywhere(name):
        return True
    assigned = match[3] in ("=", "%3d", "%3D") or bool(match[2])
    return assigned and (secret_when_assigned(name) or (shortest_in_query(name) > 0 and not match[2]))


def _in_pair(text: str, name_start: int) -> bool:
    """Whether the quoted name opens a tuple, as in a list of headers: `(b'cookie', b'…')`."""
    return re.search(r"\([bu]?\\{0,8}[\"']\Z", text[max(0, name_start - 12) : name_start]) is not None


def _in_quotes(text: str, opened: re.Match[str]) -> tuple[int, int] | None:
    """Up to the quote that closes; without one, the text was cut and its rest is the value."""
    start, depth, quote = opened.end(), len(opened[1]), opened[2]
    end = at = start
    while (end := text.find(quote, at)) >= 0:
        plain = end
        while plain > at and text[plain - 1] == "\\":
            plain -= 1
        if (end - plain <= depth) if depth else (end - plain) % 2 == 0:
            end = plain if depth else end
            break
        at = end + 1
    if end < 0:
        end = len(text)
    elif text.find("\n", start, end) >= 0:
        # Either a value of several lines or one that was cut, and then the quote belongs to something else.
        end = _line_end(text, end)
    if text.startswith(MARK, start) or (end - start <= 80 and _NO_VALUE.match(text[start:end])):
        return None
    return start, end


def _in_query(text: str, start: int, name: str, sign: str, *, surely: bool) -> tuple[int, int] | None:
    """A value up to the next `&`. Not `surely`: it is one only if there is a next."""
    match = _QUERY_VALUE.match(text, start)
    end = start if match is None else match.end()
    if sign.startswith("%"):
        encoded_end = text.find("%26", start, end)
        end = end if encoded_end < 0 else encoded_end
    if end - start < shortest_in_query(name) or not (surely or text.startswith("&", end)):
        return None
    return _unquoted(text, start, end, _NO_VALUE)


def _plain_end(text: str, start: int) -> int:
    match = _PLAIN_VALUE.match(text, start)
    return start if match is None else match.end()


def _unquoted(text: str, start: int, end: int, nothing: re.Pattern[str]) -> tuple[int, int] | None:
    while end > start and text[end - 1] in _TAIL:
        end -= 1
    return None if end - start <= 80 and nothing.match(text[start:end]) else (start, end)


def _line_end(text: str, start: int) -> int:
    match = _LINE.match(text, start)
    return start if match is None else match.end()


def _line(text: str, start: int, before: str) -> tuple[int, int] | None:
    end = _line_end(text, start)
    if before and before in "\"'":
        closed = text.find(before, start, end)
        end = end if closed < 0 else closed
    return None if end - start <= 80 and _NO_VALUE.match(text[start:end]) else (start, end)


def _in_brackets(text: str, start: int, bracket: str) -> tuple[int, int] | None:
    line = _line_end(text, start)
    end = text.find(bracket, start, line) + 1
    if end == 0:
        return start, line
    return None if end - start <= 80 and _NO_VALUE.match(text[start:end]) else (start, end)
