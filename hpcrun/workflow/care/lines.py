"""Reading journals line by line, in little memory whatever they hold, and judging each line."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from hpcrun.record import Fact, decode

LONG = 4 << 20
"""Bytes of a line from which on only its checksum is compared: images, and what others invent."""

PLACES = 3
"""Places of bad lines that are told."""

_TORN = b"torn"
"""What stands for a torn line where the journals of a sealed run were written back."""

_BEGUN = re.compile(
    r".|[:,\[](?:t(?:ru?)?|f(?:a(?:ls?)?)?|n(?:ul?)?|-)|\d(?:\.|(?:\.\d+)?[eE][+-]?)"
)
"""What stands at the end where nothing, a word or a number breaks off, and the letter before."""

_ARTIFACT = re.compile(rb'"k":"artifact".*?"d":\{"file":("(?:[^"\\]|\\.)*")', re.DOTALL)


class Line(NamedTuple):
    """A line of a journal. number counts from 1. beginning: its first bytes.

    fact: None for a line that is none, or that is LONG. is_good: whether its checksum is right and
    it holds a fact. is_torn: whether it is the beginning of a line whose end was never written.
    """

    number: int
    beginning: bytes
    fact: Fact | None
    is_good: bool
    is_torn: bool = False

    @property
    def artifact(self) -> str | None:
        """The name of the image whose bytes it holds."""
        if self.fact is not None:
            return self.fact.data["file"] if self.fact.kind == "artifact" else None
        match = _ARTIFACT.search(self.beginning) if self.is_good else None
        return str(json.loads(match[1])) if match is not None else None


class BadLines(NamedTuple):
    """How many lines are torn or garbled, and the numbers of the first garbled ones."""

    torn: int = 0
    garbled: int = 0
    places: tuple[int, ...] = ()

    def with_line(self, line: Line) -> BadLines:
        """With one line more."""
        if line.is_good:
            return self
        if line.is_torn:
            return self._replace(torn=self.torn + 1)
        places = (*self.places, line.number)[:PLACES]
        return BadLines(self.torn, self.garbled + 1, places)


def lines(file: BinaryIO, limit: int | None = None) -> Iterator[Line]:
    """The lines of a journal; an unfinished last one, which may be being written, is none.

    limit: bytes to be read at most. Empty lines are left out, as readers do.
    """
    number = 0
    while (limit is None or file.tell() < limit) and (data := file.readline(LONG)):
        number += 1
        if data == b"\n":
            continue
        if data.endswith(b"\n"):
            fact = decode(data)
            yield Line(number, data[:LONG], fact, fact is not None, fact is None and _is_torn(data))
            continue
        found = _long_line(file, data, limit)
        if found is None:
            return
        yield Line(number, data[: 1 << 12], None, found)


def _long_line(file: BinaryIO, data: bytes, limit: int | None) -> bool | None:
    """Whether the checksum of a line is right; None if it has no end."""
    checksum = zlib.crc32(data[9:])
    while (limit is None or file.tell() < limit) and (piece := file.readline(LONG)):
        checksum = zlib.crc32(piece.removesuffix(b"\n"), checksum)
        if piece.endswith(b"\n"):
            return re.match(rb"[0-9a-f]{8} ", data) is not None and int(data[:8], 16) == checksum
    return None


def _is_torn(line: bytes) -> bool:
    """Whether a bad line begins as one that `encode` made, and breaks off."""
    line = line.rstrip(b"\n")
    if line == _TORN or re.fullmatch(rb"[0-9a-f]{1,8} ?", line):
        return True
    if not re.match(rb"[0-9a-f]{8} \{", line):
        return False
    text = line[9:].decode("utf-8", "replace")
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg.startswith("Unterminated string"):
            return not text.endswith("}")
        return _BEGUN.fullmatch(text, max(error.pos - 1, 0)) is not None
    except RecursionError:
        pass
    return False
