"""Takes secrets out of a text and leaves the rest readable.

Every rule takes time linear in the text's length: a repeat is bounded, or its characters exclude what the rule starts
with, or the match always succeeds and is consumed. A text in which something was found is searched again, so that
redacting twice changes nothing.
"""

from __future__ import annotations

import re

from spanwell.enrich.secret_names import MARK, has_stem
from spanwell.enrich.secret_values import assignments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TEXT = 1_048_576
"""Longer texts are cut: searching them would hold the application up."""
_MARGIN = 4096
# What is left next to a mark can be something that it was not next to a letter; in practice two passes are enough.
_MOST_PASSES = 4

_KEY_BLOCK = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,60}-----")

# `user:password@` and `token@`. The last `@` before the path counts: passwords with an `@` are common.
_USER_INFO = re.compile(r"://[^\s/?#\"'<>]*@")
# A password with a slash in it, told from `host:port/path@version` by what follows the colon.
_USER_INFO_SLASH = re.compile(r"://[^\s/?#@:\[\"'<>]{0,256}:(?!\d{1,5}(?:[/?#]|$))[^\s@:\"'<>]{1,256}@(?=[\w\[])")
_USER_INFO_ENCODED = re.compile(r"(%3[aA]%2[fF]%2[fF])[^\s/?#&\"'<>%]{0,256}%3[aA][^\s/?#&\"'<>]{0,512}?%40")

_SCHEMES = re.compile(
    r"\b(bearer|basic)((?:\s|%20|\+){1,4})(?!authenti|authori[sz]|credential)([\w.~+/=%-]{8,})", re.IGNORECASE
)
_SHAPES = re.compile(
    "A[KSB]IA[A-Z0-9]{16,124}"  # AWS access key ids
    r"|(?:IQoJb3JpZ2lu|F[wQ]oGZXIvYXdz)[\w+/=%-]{16,}"  # AWS session tokens
    r"|gh[pos]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[abeprs]-[\w-]{10,}|AIza[\w-]{35}"
    r"|[rs]k_live_\w{16,}"
)
# It takes a whole run whatever is in it, so that a run is walked once; `_jwt` says what it was.
_JWT = re.compile(r"eyJ[\w-]*(?:\.[\w-]*){0,4}")

_MAIL_DOMAIN = re.compile(r"(?:@|%40)((?:[^\W_](?:[\w-]{0,62})\.){1,8}[^\W\d_]{2,24})(?![^\W_])")
_MAIL_USER = re.compile(r"(?:[\w.+-]|%2[bB]){1,64}\Z")
_VERSION = re.compile(r"\d+\.\d")
_NOT_DOMAINS = frozenset(
    (
        *("png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "js", "mjs", "cjs", "ts", "tsx", "jsx", "css", "scss"),
        *("map", "json", "html", "htm", "xml", "txt", "pdf", "woff", "woff2", "toml", "yaml", "yml", "whl", "tgz"),
        *("gz", "zip", "tar", "mp4", "alpha", "beta", "rc", "dev"),
    )
)

# No condition on what follows: a match that fails would be tried again from every group. `_cards` looks.
_DIGITS = re.compile(r"(?<![0-9A-Za-z])(?<![0-9]\.)[0-9]+(?:(?:[ +-]|%20)[0-9]+)*")
_GROUP = re.compile(r"(%20|[ +-])?([0-9]+)")

_LITERAL = re.compile(r"'[^']*'?")
_DOUBLE_LITERAL = re.compile(r'"[^"]*"?')
_QUOTE_IN_QUOTES = re.compile(r"""\\'|"[^"']*'[^"]*"|--|/\*""")
_PARAMETERS = re.compile(r"\[parameters: [^\n]*")
_VALUES = re.compile(r"\bvalues?\b", re.IGNORECASE)
_COMMAND = re.compile(
    r"(\A\s{0,8}(?:hello\s\d\s)?auth[ \t]|\b(?:requirepass|masterauth)[ \t])[ \t]{0,8}[^\s?].*", re.IGNORECASE
)
_NAMES_SECRET = re.compile(
    r"passw|passphrase|secret|token|credential|api_?key|access_?key|private_?key|\bpwd\b|identified\s{1,8}by",
    re.IGNORECASE,
)


def redact(text: str, *, personal: bool = True, statement: bool = False) -> str:
    """`text` with `[redacted]` for every secret; the same object when there is none.

    `personal`: e-mail addresses and card numbers too. `statement`: it is one for a database, so when it
    names a secret every string literal goes.
    """
    if len(text) > MAX_TEXT:
        left = redact(text[:MAX_TEXT], personal=personal, statement=statement)
        return f"{left[: MAX_TEXT - _MARGIN]}…[+{len(text) - MAX_TEXT + _MARGIN} characters]"
    for _ in range(_MOST_PASSES):
        found = _redact_once(text, personal, statement)
        if found == text:
            break
        text = found
    return text


def _redact_once(text: str, personal: bool, statement: bool) -> str:
    original, low = text, text.lower()
    if "-----BEGIN " in text:
        text = _key_blocks(text)
    if "@" in text or "%40" in text:
        text = _user_infos(text)
    if has_stem(low):
        text = _statements(text, statement)
        text = assignments(text)
    if "bearer" in low or "basic" in low:
        text = _SCHEMES.sub(_scheme, text)
    if low != original:  # random tokens have upper case
        text = _SHAPES.sub(MARK, text)
    if "eyJ" in text:
        text = _JWT.sub(_jwt, text)
    if personal:
        if "@" in text or "%40" in text:
            text = _mails(text)
        text = _DIGITS.sub(_cards, text)
    return text


def _key_blocks(text: str) -> str:
    """A block without its end goes on to the end of the text: it was cut somewhere."""
    parts, at = [], 0
    while (start := _KEY_BLOCK.search(text, at)) is not None:
        parts += [text[at : start.start()], MARK]
        end = _KEY_END.search(text, start.end())
        at = len(text) if end is None else end.end()
    return "".join([*parts, text[at:]]) if parts else text


def _user_infos(text: str) -> str:
    if "://" in text:
        text = _USER_INFO.sub(f"://{MARK}@", text)
        text = _USER_INFO_SLASH.sub(f"://{MARK}@", text)
    return _USER_INFO_ENCODED.sub(rf"\g<1>{MARK}%40", text) if "%40" in text else text


def _scheme(match: re.Match[str]) -> str:
    name, gap, value = match.groups()
    if name.lower() == "basic" and not _is_user_and_password(value):
        return match[0]
    return f"{name}{gap}{MARK}"


def _is_user_and_password(value: str) -> bool:
    from binascii import Error, a2b_base64

    try:
        return b":" in a2b_base64(value.rstrip("=")[:1024].replace("%3D", "") + "===")
    except (Error, ValueError):
        return False


def _jwt(match: re.Match[str]) -> str:
    parts = match[0].split(".")
    complete = len(parts) >= 3 or (len(parts) == 2 and len(parts[1]) >= 4)
    return MARK if complete and len(parts[0]) >= 10 and len(match[0]) >= 20 else match[0]


def _mails(text: str) -> str:
    # From the `@` backwards: a search from the front would try every start of a long word.
    parts, at = [], 0
    for match in _MAIL_DOMAIN.finditer(text):
        domain = match[1]
        if domain.rpartition(".")[2].lower() in _NOT_DOMAINS or _VERSION.match(domain):
            continue
        user = _MAIL_USER.search(text, max(at, match.start() - 64), match.start())
        if user is None or user[0] == "git":
            continue
        parts += [text[at : user.start()], MARK]
        at = match.end()
    return "".join([*parts, text[at:]]) if parts else text


def _cards(match: re.Match[str]) -> str:
    run = match[0]
    if len(run) < 13:
        return run
    groups = _GROUP.findall(run)
    # Digits that go on as letters are part of an id.
    usable = len(groups) - match.string[match.end() : match.end() + 1].isalnum()
    written, index = [], 0
    while index < len(groups):
        gap, digits = groups[index]
        taken = _card_at(groups, index, usable)
        written += [gap, MARK if taken else digits]
        index += taken or 1
    return "".join(written)


def _card_at(groups: list[tuple[str, str]], index: int, usable: int) -> int:
    """How many groups from `index` on make one card number; 0: none do."""
    digits = ""
    if groups[index][1][0] not in "23456":
        return 0
    for count, (_, group) in enumerate(groups[index : min(index + 8, usable)], 1):
        digits += group
        if len(digits) > 19:
            return 0
        if len(digits) >= 13 and _is_card(digits):
            return count
    return 0


# First two digits -> possible lengths, as issuers use them: times and generated ids start with 1 mostly.
_ISSUERS = {
    **dict.fromkeys(("34", "37"), (15,)),
    **dict.fromkeys(("30", "36", "38", "39"), (14, 16)),
    "35": (16,),
    **dict.fromkeys((f"4{digit}" for digit in range(10)), (13, 16, 19)),
    **dict.fromkeys(("51", "52", "53", "54", "55"), (16,)),
    **dict.fromkeys(("22", "23", "24", "25", "26", "27"), (16,)),
    **dict.fromkeys(("50", "56", "57", "58", "63", "67"), range(13, 20)),
    **dict.fromkeys(("60", "62", "64", "65"), range(16, 20)),
}


def _is_card(digits: str) -> bool:
    if len(digits) not in _ISSUERS.get(digits[:2], ()):
        return False
    doubled = (int(each) * 2 for each in digits[-2::-2])
    return (sum(map(int, digits[::-2])) + sum(each // 10 + each % 10 for each in doubled)) % 10 == 0


def names_secret(statement: str) -> bool:
    """Whether a statement has to do with a secret, so that its literals may be one."""
    return _NAMES_SECRET.search(statement) is not None


def _statements(text: str, statement: bool) -> str:
    """The whole text is one statement, or it quotes one as SQLAlchemy's errors do."""
    if statement:
        return _statement(text)
    start = text.find("[SQL: ")
    if start < 0 or not names_secret(text[start:]):
        return text
    return text[:start] + _statement(_PARAMETERS.sub(f"[parameters: {MARK}]", text[start:]))


def _statement(text: str) -> str:
    text = _COMMAND.sub(rf"\g<1>{MARK}", text)
    if ("'" not in text and '"' not in text) or not names_secret(text):
        return text
    first, last = text.find("'"), text.rfind("'")
    if text.count("'") % 2:
        text = f"{text[: first + 1]}{MARK}'"
    elif first >= 0 and _QUOTE_IN_QUOTES.search(text):
        # Which quote opens and which closes depends on the database: everything between the outer ones goes.
        text = f"{text[: first + 1]}{MARK}{text[last:]}"
    else:
        text = _LITERAL.sub(_literal, text)
    values = _VALUES.search(text) if '"' in text else None
    if values is None:
        return text
    return text[: values.end()] + _DOUBLE_LITERAL.sub(_literal, text[values.end() :])


def _literal(match: re.Match[str]) -> str:
    quote = match[0][0]
    return match[0] if match[0].strip(quote) == "" else f"{quote}{MARK}{quote}"


def custom(patterns: list[str], report: Callable[[str], object]) -> list[re.Pattern[str]]:
    """`patterns` compiled; each one that cannot be used is reported in one line and left out.

    A pattern's first group, if it has one, is what is replaced; otherwise all that it matches is.
    """
    found: list[re.Pattern[str]] = []
    for pattern in patterns:
        problem = _problem(pattern, len(found))
        if problem:
            report(f"redaction pattern {pattern[:80]!r}: {problem}; it is left out")
        else:
            found.append(re.compile(pattern))
    return found


_MAX_PATTERN, _MAX_PATTERNS = 1000, 50
_NESTED = re.compile(r"[+*}]\??\)(?:[+*]|\{\d*,)")


def _problem(pattern: str, already: int) -> str:
    if already >= _MAX_PATTERNS:
        return f"more than {_MAX_PATTERNS} patterns, join some with |"
    if len(pattern) > _MAX_PATTERN:
        return f"longer than {_MAX_PATTERN} characters, shorten it"
    if _NESTED.search(pattern):
        return "a repeat within a repeat can take exponential time, write it without one"
    try:
        empty = re.compile(pattern).search("")
    except (re.error, RecursionError, OverflowError) as error:
        return f"no regular expression ({error})"
    return "matches the empty text, make it match at least one character" if empty else ""


def apply(pattern: re.Pattern[str], text: str) -> str:
    """`text` with what `pattern` finds redacted."""
    return pattern.sub(_group_redacted if pattern.groups else _redacted, text)


def _redacted(match: re.Match[str]) -> str:
    return MARK if match[0] else ""


def _group_redacted(match: re.Match[str]) -> str:
    start, end = match.span(1)
    if start < 0 or start == end:
        return match[0]
    start, end = start - match.start(), end - match.start()
    return f"{match[0][:start]}{MARK}{match[0][end:]}"
