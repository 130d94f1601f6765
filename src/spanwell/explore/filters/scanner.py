"""The characters of a filter expression: words, quoted texts, and where one is."""

from __future__ import annotations

from spanwell.explore.filters.errors import FilterError

QUOTES = "\"'"
_STOPS = frozenset(" \t\r\n\f\v\"'(){}[]=!<>,#")


class Scanner:
    """A place in `text`, which only moves forward."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skip(self) -> int:
        """Past white space; where that is."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.at

    def next(self) -> str:
        """The character here, or "" at the end."""
        return self.text[self.at : self.at + 1]

    def peek(self) -> str:
        """The next character that is no white space, or ""."""
        self.skip()
        return self.next()

    def expect(self, sign: str, message: str) -> None:
        """Past `sign`, or `message` is the error."""
        if self.peek() != sign:
            raise self.error(message)
        self.at += 1

    def word(self, stops: str = "") -> str:
        """Past the word here, which may be ""."""
        start = self.skip()
        end = start
        while end < len(self.text) and not (
            self.text[end] in _STOPS or self.text[end] in stops or self.text[end].isspace()
        ):
            end += 1
        self.at = end
        return self.text[start:end]

    def word_ahead(self) -> str:
        """The next word in lower case, not taken."""
        start = self.skip()
        word = self.word()
        self.at = start
        return word.lower()

    def taken_word(self, wanted: str) -> bool:
        """Whether `wanted` is the next word; then past it."""
        if self.word_ahead() != wanted:
            return False
        self.at += len(wanted)
        return True

    def quoted(self) -> str:
        """Past the text in quotation marks that begins here, without them."""
        start = self.at
        mark = self.text[start]
        self.at += 1
        taken: list[str] = []
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == mark:
                self.at += 1
                return "".join(taken)
            if letter == "\\" and self.text[self.at + 1 : self.at + 2] in (*QUOTES, "\\"):
                self.at += 1
                letter = self.text[self.at]
            taken.append(letter)
            self.at += 1
        raise self.error(f"the quotation mark {mark} is not closed", start)

    def error(self, message: str, position: int | None = None) -> FilterError:
        """The error, at the next character if no other is named."""
        return FilterError(message, self.skip() if position is None else position, self.text)
