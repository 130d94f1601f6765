"""The summary of an SQL statement: operations and the tables they are about, e.g. `INSERT orders SELECT carts`.

Only what stands where a table's name must stand gets in, so no value of the statement does. Where a quotation could
end in two places, depending on the dialect, reading stops: better half a summary than a value in it. One pass, and
of a long statement the start alone.
"""

from __future__ import annotations

import re

MAX_SUMMARY = 255
_MAX_READ = 2048
_MAX_WORDS = 16
_MAX_NAME = 128
_MAX_DEPTH = 64

# Plain statements on one table, which are most: nothing after the name can bring another.
_PLAIN = re.compile(
    r"\s*(?:(SELECT)\s[\w\s.,*]*?\sFROM|(INSERT)\s+INTO|(UPDATE)|(DELETE)\s+FROM)"
    r"\s+([A-Za-z_][\w$]*(?:\.[A-Za-z_][\w$]*)?)(?=\s|;|\(|\Z)",
    re.IGNORECASE,
)
_REST = re.compile(r"\s*(?:\Z|;\s*\Z|(?<=\s)(?:WHERE|SET|ORDER\s+BY|GROUP\s+BY|LIMIT|VALUES)\b|\()", re.IGNORECASE)
_MORE = re.compile(r"select|join|from|;|union", re.IGNORECASE)

_TOKEN = re.compile(
    r"(?P<skip>\s+|--[^\n]*|/\*[\s\S]*?(?:\*/|\Z))"
    r"|(?P<stop>#(?![>-])|(?:[qQ]|[nN][qQ])'|\$[A-Za-z_]*\$|['\"][^'\"\\]*\\)"
    r"|(?P<value>'[^']*'|[0-9][\w.]*|%\(\w*\)\w?|[@:%$]\w*)"
    r'|(?P<name>"[^"]*"|`[^`]*`|\[[A-Za-z_][\w $#@.-]*\])'
    r"|(?P<word>[^\W\d][\w$]*)"
    r"|(?P<sign>[\s\S])"
)

# Operations; those of the second line are followed by what they are about.
_NESTED = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE"))
_TARGETED = frozenset(("UPDATE", "TRUNCATE", "COPY", "CALL", "EXEC"))
_DEFINES = frozenset(("CREATE", "ALTER", "DROP"))
_FIRST = frozenset((*_NESTED, *_TARGETED, *_DEFINES, "REPLACE"))
_OBJECTS = frozenset(("TABLE", "VIEW", "INDEX", "SEQUENCE", "FUNCTION", "PROCEDURE", "TRIGGER", "SCHEMA", "DATABASE"))
_NAMELESS = frozenset(("USER", "ROLE", "LOGIN", "EXTENSION", "SERVER", "SUBSCRIPTION"))
_ALONE = frozenset(
    (
        *("BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET", "RESET", "SHOW", "USE", "PRAGMA"),
        *("VACUUM", "ANALYZE", "GRANT", "REVOKE", "LOCK", "UNLOCK", "DECLARE", "FETCH", "CLOSE", "DEALLOCATE"),
        *("PREPARE", "EXECUTE", "DESCRIBE", "LISTEN", "NOTIFY", "ATTACH", "DETACH", "REINDEX", "KILL", "VALUES"),
        *("COMMENT", "DISCARD", "CHECKPOINT", "DO", "LOAD", "END", "UNLISTEN", "CLUSTER", "REFRESH"),
    )
)
# Words that may stand between an operation and the name it is about.
_BETWEEN = frozenset(("ONLY", "TABLE", "IF", "NOT", "EXISTS", "LATERAL", "LOW_PRIORITY", "IGNORE", "CONCURRENTLY"))
# After these a comma does not bring another table.
_ENDS = frozenset(
    (
        *("WHERE", "ON", "GROUP", "ORDER", "HAVING", "LIMIT", "UNION", "SET", "VALUES", "WINDOW", "FETCH", "OFFSET"),
        *("RETURNING", "INTERSECT", "EXCEPT", "FOR", "WHEN", "AS"),
    )
)
_EXPRESSION = "-"


def summarize(statement: str) -> str:
    """At most 255 characters; "" for what does not begin as SQL does."""
    plain = _PLAIN.match(statement, 0, _MAX_READ)
    if plain is not None and plain[5].upper() not in _BETWEEN:
        rest = _REST.match(statement, plain.end())
        if rest is not None and _MORE.search(statement, rest.end(), _MAX_READ) is None:
            operation = plain[1] or plain[2] or plain[3] or plain[4]
            return f"{operation.upper()} {plain[5]}"[:MAX_SUMMARY]
    return _Reader().read(statement[:_MAX_READ])


class _Reader:
    """One statement, token by token. `operation` is that of the innermost parentheses, "" before their first word."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._operation = ""
        self._wanted = False  # a target comes next
        self._listing = False  # and after a comma another
        self._levels: list[tuple[str, bool]] = []
        self._target = ""  # as far as it was read
        self._before = ""  # the word before
        self._common: set[str] | None = None  # after WITH: names that are no tables

    def read(self, statement: str) -> str:
        for token in _TOKEN.finditer(statement):
            kind, text = token.lastgroup, token[0]
            if kind == "skip":
                continue
            if kind == "stop" or text in ("'", '"', "`") or len(self._said) >= _MAX_WORDS:
                break
            if self._target and self._goes_on(kind, text):
                continue
            if kind == "word":
                if not self._word(text, text.upper()):
                    break
            elif kind == "name":
                self._name(text[1:-1])
            elif kind == "sign":
                if not self._sign(text):
                    break
            else:
                self._wanted = False
        self._end_target()
        return " ".join(self._said)[:MAX_SUMMARY]

    def _goes_on(self, kind: str | None, text: str) -> bool:
        """Whether the token is one more part of `schema.table`."""
        if text == "." and not self._target.endswith("."):
            self._target += "."
            return True
        if self._target.endswith(".") and kind in ("word", "name"):
            self._target += text if kind == "word" else text[1:-1]
            return True
        self._end_target()
        return False

    def _end_target(self) -> None:
        name, self._target = self._target.rstrip("."), ""
        if name and name.isprintable() and name.upper() not in (self._common or ()):
            self._said.append(name[:_MAX_NAME])

    def _name(self, text: str) -> None:
        if self._wanted:
            self._target, self._wanted = text[:_MAX_NAME], False
        elif self._common is not None and not self._operation:
            self._common.add(text.upper())

    def _word(self, text: str, word: str) -> bool:
        """False where reading ends."""
        before, self._before = self._before, word
        if word == "SELECT" or (not self._operation and word in (_NESTED if self._levels else _FIRST)):
            self._begin(word)
        elif not self._operation:
            return self._opening(text, word)
        elif word in ("FROM", "JOIN", "INTO", "USING"):
            self._clause(word, before)
        elif word == "VALUES" and not self._levels:
            return False
        elif word in _ENDS:
            self._wanted = self._listing = False
        elif self._operation in _DEFINES:
            self._define(word)
        elif self._wanted and word not in _BETWEEN:
            self._name(text)
        return True

    def _begin(self, word: str) -> None:
        self._said.append(word)
        self._operation = word
        self._wanted = word in _TARGETED
        self._listing = word in ("UPDATE", "TRUNCATE")

    def _opening(self, text: str, word: str) -> bool:
        """A word before the first operation of the statement, or of a pair of parentheses."""
        if word == "WITH":
            self._common = set()
        elif self._levels and self._wanted:
            self._operation = "FROM"
            self._name(text)
        elif self._levels:
            self._operation = _EXPRESSION
        elif self._common is not None:
            self._name(text)
        elif word == "EXPLAIN":
            self._said.append(word)
        elif not self._said:
            if word in _ALONE:
                self._said.append(word)
            return False
        return True

    def _clause(self, word: str, before: str) -> None:
        if word == "JOIN":
            self._wanted = True
        elif word == "FROM":  # not `extract(year from …)`, not `is distinct from`
            self._wanted = self._listing = self._operation not in (_EXPRESSION, "COPY") and before != "DISTINCT"
        elif word == "INTO":
            self._wanted = self._operation != _EXPRESSION
        else:
            self._wanted = self._operation in ("DELETE", "MERGE")

    def _define(self, word: str) -> None:
        if word in _OBJECTS or word in _NAMELESS:
            self._said.append(word)
            self._operation, self._wanted = word, word in _OBJECTS

    def _sign(self, sign: str) -> bool:
        if sign == "(":
            self._levels.append((self._operation, self._listing))
            self._operation, self._listing = "", self._wanted
            return len(self._levels) <= _MAX_DEPTH
        if sign == ")":
            self._operation, self._listing = self._levels.pop() if self._levels else ("", False)
            self._wanted = False
        elif sign == ",":
            self._wanted = self._listing
        elif sign == ";":
            self._operation, self._common, self._levels = "", None, []
            self._wanted = self._listing = False
        return True
