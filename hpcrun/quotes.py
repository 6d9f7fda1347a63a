"""Whether one stands inside of quotes in a piece of bash. Pure."""

from __future__ import annotations

import re

_CLOSES = {"'": "'", "$'": "'", '"': '"', "`": "`", "(": ")", "#": "\n"}
"""What is open, to what closes it: quotes, substitutions, comments."""

_HERE_DOCUMENT = re.compile(r"<<-?[ \t]*(['\"\\]?)([A-Za-z_]\w*)\1?")


class Quotes:
    """Reads bash piece by piece, and knows after each whether it ended inside of quotes.

    Comments, escapes, here-documents and `$(…)` inside of quotes are heeded; a case pattern inside
    of `$(…)` is not.
    """

    def __init__(self) -> None:
        self._open: list[str] = []  # the innermost last
        self._before = "\n"
        self._ends: list[str] = []  # the words that end here-documents, the next one first
        self._line: str | None = None  # of a here-document, as far as it has come

    @property
    def are_open(self) -> bool:
        """Whether what comes next stands inside of quotes."""
        return self._line is None and bool(self._open) and self._open[-1] in ("'", "$'", '"')

    @property
    def is_text(self) -> bool:
        """Whether what comes next is text: inside of quotes or of a here-document."""
        return self._line is not None or self.are_open

    def word(self) -> None:
        """What comes next is one quoted word."""
        self._before = "x"
        if self._line is not None:
            self._line += "x"

    def read(self, text: str) -> None:
        """The next piece."""
        at = 0
        while at < len(text):
            at = self._skip(text, at) if self._line is not None else self._step(text, at)

    def _step(self, text: str, at: int) -> int:
        """Reads what belongs together; gives the place behind it."""
        char, innermost = text[at], self._open[-1] if self._open else ""
        before, self._before = self._before, char
        if char == "\\" and innermost not in ("'", "#"):
            self._before = "x"
            return at + 2
        if innermost and char == _CLOSES[innermost]:
            self._open.pop()
        elif innermost in ("'", "$'", "#"):
            return at + 1
        elif text.startswith("$(", at):
            self._open.append("(")
            return at + 2
        elif char == "`":
            self._open.append(char)
        elif innermost == '"':
            return at + 1
        elif char in ("'", '"', "("):
            self._open.append("$'" if before == "$" and char == "'" else char)
        elif char == "#" and before in " \t\n;&|(":
            self._open.append(char)
        elif char == "<" and before != "<" and (here := _HERE_DOCUMENT.match(text, at)):
            self._ends.append(here[2])
            return here.end()
        if char == "\n" and self._ends:
            self._line = ""
        return at + 1

    def _skip(self, text: str, at: int) -> int:
        """Reads a line of a here-document, or what is left of it."""
        line, newline, _ = text[at:].partition("\n")
        self._line = (self._line or "") + line
        if newline:
            if self._line.strip("\t") == self._ends[0]:
                del self._ends[0]
            self._line = "" if self._ends else None
        return at + len(line) + len(newline)
