"""URL paths and names without the values in them: `/users/123/orders` -> `/users/{id}/orders`. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

_MAX_PATH = 512
_MAX_SEGMENTS = 8
_MAX_WORD = 32
_MAX_EXTENSION = 5
_REMEMBERED = 2048
_DATE = re.compile(r"\d{4}[-_.]\d{1,2}([-_.]\d{1,2}([T ].*)?)?")
_EMAIL = re.compile(r"[^@]+(@|%40)[^@]+\.[A-Za-z]{2,}", re.IGNORECASE)
_ID = re.compile(
    r"""[-+]?\d+([.,:]\d+)*              # numbers
    | \{?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?
    | (?=.*\d)(?=.*[a-f])(0x)?[0-9a-f]{8,}
    | .*\d{4}.*                          # order-12345, cus_20240117x
    | (?=.*\d).{16,}                     # tokens: long, with a digit
    | .*%[0-9A-F]{2}.*%[0-9A-F]{2}.*""",  # names in other scripts
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
# Ids such as YouTube's: letters of both cases and digits, in no order.
_MIXED = re.compile(r"(?=.*\d)(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9_-]{8,}")
_WORD_IN_NAME = re.compile(r"[^\s/]+")


def template(path: str) -> str:
    """`path` without query, its ids as `{id}`, dates as `{date}`, e-mail addresses as `{email}`.

    Numbers, UUIDs, hexadecimal of 8 and more with digits and letters, long tokens count as ids. Of a deep path the
    first eight segments count, the rest is `*`. The 2,048 paths used last are remembered.
    """
    return _path(path) if len(path) <= _MAX_PATH else _path.__wrapped__(path[:_MAX_PATH])


def template_name(name: str) -> str:
    """A span's name with its ids replaced, for spans that nothing but their name describes."""
    return _name(name) if len(name) <= _MAX_PATH else _name.__wrapped__(name[:_MAX_PATH])


@lru_cache(_REMEMBERED)
def _path(path: str) -> str:
    for end in "?#;":
        path = path.partition(end)[0]
    segments = [segment for segment in path.split("/") if segment]
    shown = [_segment(segment) for segment in segments[:_MAX_SEGMENTS]]
    if len(segments) > _MAX_SEGMENTS:
        shown.append("*")
    return "/" + "/".join(shown)


@lru_cache(_REMEMBERED)
def _name(name: str) -> str:
    return _WORD_IN_NAME.sub(lambda found: _segment(found[0]), name)


def _segment(segment: str) -> str:
    if len(segment) <= _MAX_WORD and segment.isalpha():
        return segment
    if segment.startswith(("{", ":", "<")):
        return segment[:_MAX_WORD]  # a template already
    if _DATE.fullmatch(segment):
        return "{date}"
    if _EMAIL.fullmatch(segment):
        return "{email}"
    *stems, extension = segment.split(".")
    if 0 < len(stems) <= 2 and all(stems) and extension.isalpha() and len(extension) <= _MAX_EXTENSION:
        return ".".join([*(_segment(stem) for stem in stems), extension])
    if len(segment) > _MAX_WORD or _ID.fullmatch(segment) or _MIXED.fullmatch(segment):
        return "{id}"
    return segment
