"""A file of JSON as its top-level values, one after the other, without holding the whole.

Read piece by piece: a value a line; the items of one big list; the items of the one big list in one big object
(OTLP's `resourceSpans`, Jaeger's `data`, `Traces` of BatchGetTraces). A line or item has at most `MAX_ITEM`
characters.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Read = Callable[[int], bytes]

MAX_ITEM = 128 * 2**20
"""Characters of one line, or of one item of a list: what is parsed at once."""

_CHUNK = 2**20
_LITERAL = len("-Infinity")
_EXPONENT = len("e+")
_SPACE = re.compile(r"[ \t\r\n]*")
_MEMBERS = ("resourceSpans", "batches", "data", "Traces", "Segments")
_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_decode = json.JSONDecoder().raw_decode


class Found(NamedTuple):
    """A value, or in words why there is none. where: its line or index in the file."""

    where: str
    value: Any
    problem: str = ""


class _Text:
    """The text of a file, at the most `MAX_ITEM` characters at a time."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self.text = ""
        self.at = 0
        self.before = 0
        self.ended = False

    @property
    def offset(self) -> int:
        """Characters of the file before the current one."""
        return self.before + self.at

    def more(self, size: int = _CHUNK) -> bool:
        """Read on; False at the end of the file."""
        if self.ended:
            return False
        read = self._read(size)
        self.ended = not read
        self.before += self.at
        self.text, self.at = self.text[self.at :] + self._decoder.decode(read, self.ended), 0
        return not self.ended

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def value(self) -> Any:
        """The next JSON value. Raises ValueError, and `_TooLongError`."""
        size = _CHUNK
        while True:
            try:
                found, end = _decode(self.text, self.at)
            except RecursionError:
                raise ValueError("it is nested too deep") from None
            except ValueError as error:
                if _is_wrong(error, len(self.text)):
                    raise
                if len(self.text) - self.at > MAX_ITEM:
                    raise _TooLongError from None
                if not self.more(size):
                    raise
                size *= 2  # so that a long value is not parsed again for each piece
            else:
                if type(found) in (int, float) and len(self.text) - end <= _EXPONENT and not self.ended:
                    self.more()  # a number may go on
                    continue
                self.at = end
                return found


class _TooLongError(ValueError):
    pass


def _is_wrong(error: ValueError, length: int) -> bool:
    """Whether the text is no JSON, however it goes on."""
    at = getattr(error, "pos", 0)
    return at < length - _LITERAL and not str(error).startswith("Unterminated")


def values(read: Read) -> Iterator[Found]:
    """The values of the file that `read(size)` gives the bytes of. Raises what `read` raises."""
    text = _Text(read)
    first = text.peek()
    if first == "{" and _is_lines(text):
        yield from _lines(text)
    else:
        yield from _documents(text)


def _is_lines(text: _Text) -> bool:
    """Whether the first or the second line is an object by itself, and there is more than one line."""
    while "\n" not in text.text[text.at :] and len(text.text) < _CHUNK and text.more():
        pass
    first, _, rest = text.text[text.at :].partition("\n")
    if not rest.strip() and text.ended:
        return False
    second = rest.partition("\n")[0] if "\n" in rest else ""
    # The first may be broken; but a list that is opened there has its items on the lines below.
    return _is_object(first) or (not first.rstrip().endswith(("[", "{", ",", ":")) and _is_object(second))


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _lines(text: _Text) -> Iterator[Found]:
    number = 1 + text.text.count("\n", 0, text.at)
    while True:
        end = text.text.find("\n", text.at)
        while end < 0 and len(text.text) - text.at <= MAX_ITEM:
            seen = len(text.text) - text.at
            if not text.more():
                break
            end = text.text.find("\n", seen)
        line = text.text[text.at : end if end >= 0 else len(text.text)]
        too_long = end < 0 and not text.ended
        if too_long:
            end = _skip_line(text)
        if line.strip():
            yield _of_line(f"line {number}", line, too_long)
        if end < 0:
            return
        text.at = end + 1
        number += 1


def _skip_line(text: _Text) -> int:
    while True:
        text.at = len(text.text)
        if not text.more():
            return -1
        end = text.text.find("\n")
        if end >= 0:
            return end


def _of_line(where: str, line: str, too_long: bool) -> Found:
    if too_long:
        return Found(where, None, _too_long("the line"))
    try:
        return Found(where, json.loads(line))
    except RecursionError:
        return Found(where, None, "it is nested too deep")
    except ValueError as error:
        return Found(where, None, f"it is no JSON: {_said(error)}")


def _documents(text: _Text) -> Iterator[Found]:
    number = 0
    while (first := text.peek()) != "":
        start = text.offset
        if first == "[":
            yield from _items(text, "item ", None)
        elif first == "{":
            yield from _members(text, number)
        else:
            yield Found(f"character {start}", None, f"it is no JSON: {first!r} is no start of a list or object")
            return
        number += 1


def _items(text: _Text, name: str, member: str | None) -> Iterator[Found]:
    """The items of the list that starts here; as the value of an object's `member`, each in an object of its own."""
    text.at += 1
    number = 0
    wrap = (lambda value: value) if member is None else (lambda value: {member: [value]})
    while True:
        following = text.peek()
        if following == "]":
            text.at += 1
            return
        if following == ",":
            text.at += 1
            text.peek()
        where, start = f"{name}{number}", text.offset
        try:
            yield Found(where, wrap(text.value()))
        except _TooLongError:
            yield Found(where, None, _too_long("it") + "; the rest of the file is not read")
            text.at, text.ended = len(text.text), True
            return
        except ValueError as error:
            yield from _broken(text, where, start, error, wrap)
            return
        number += 1


def _broken(text: _Text, where: str, start: int, error: ValueError, wrap: Callable[[Any], Any]) -> Iterator[Found]:
    """The file ends, or is no JSON, in the middle of a value: what can be saved of it, and a word."""
    saved = repaired(text.text[text.at :])
    if saved is not None:
        yield Found(where, wrap(saved))
    text.at, text.ended = len(text.text), True
    ends = not _is_wrong(error, len(text.text))
    said = "the file ends in the middle of it" if ends else _said(error)
    yield Found(where, None, f"no JSON from character {start} on ({said}); the rest of the file is not read")


def _members(text: _Text, number: int) -> Iterator[Found]:
    """The members of the object that starts here: one of the big lists item by item, else the object as one."""
    start = text.at
    text.at += 1
    where = f"document {number}" if number else "the document"
    try:
        if text.peek() == '"':
            key = text.value()
            if text.peek() == ":" and key in _MEMBERS:
                text.at += 1
                if text.peek() == "[":
                    yield from _items(text, f"{key} ", key)
                    yield from _rest(text, where)
                    return
        text.at = start
    except ValueError:
        text.at = start
    begun = text.offset
    try:
        yield Found(where, text.value())
    except _TooLongError:
        yield Found(where, None, _too_long("it"))
        text.at, text.ended = len(text.text), True
    except ValueError as error:
        yield from _broken(text, where, begun, error, lambda value: value)


def _rest(text: _Text, where: str) -> Iterator[Found]:
    """The members behind the big list, such as Jaeger's `total` and `errors`: nothing to import."""
    try:
        while text.peek() == ",":
            text.at += 1
            text.peek()
            text.value()
            if text.peek() == ":":
                text.at += 1
                text.peek()
                text.value()
        if text.peek() == "}":
            text.at += 1
    except ValueError as error:
        yield Found(where, None, f"its end is no JSON: {_said(error)}")
        text.at, text.ended = len(text.text), True


def repaired(broken: str) -> Any:
    """What is complete of a value that breaks off: cut behind the last complete object in a list, and closed."""
    stack: list[str] = []
    cut, closing = 0, ""
    for token in _STRUCTURE.finditer(broken):
        letter = token[0]
        if letter in "[{":
            stack.append("]" if letter == "[" else "}")
        elif letter in "]}":
            if not stack or stack.pop() != letter:
                break
            if letter == "}" and stack and stack[-1] == "]":
                cut, closing = token.end(), "".join(reversed(stack))
    if not cut:
        return None
    try:
        return json.loads(broken[:cut] + closing)
    except (ValueError, RecursionError):
        return None


def _too_long(what: str) -> str:
    return (
        f"{what} is longer than {MAX_ITEM // 2**20} MiB, which is parsed at once: write one request or trace a line"
    )


def _said(error: ValueError) -> str:
    return str(getattr(error, "msg", "")) or " ".join(str(error).split())
