r"""Ignore files in the syntax of .gitignore, with git's own meaning. Pure: bytes in, answers out.

A pattern speaks of one file or folder; the walk asks for each on its way down and does not enter
what is ignored. Names are bytes, as git compares them: `?` is one byte.

The rules are those of git 2.39 (dir.c, wildmatch.c). The library pathspec 1.1 was tried and lets
a pattern that matches a folder decide over what lies in it (`build` and then `!src/` sends
src/build), and it stops at lines that git passes over (`[z-a]`, a trailing `\`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_SPECIAL = re.compile(rb"[*?\[\\]")
_NEVER = rb"(?!)"
_MEMBER = re.compile(
    rb"\[:(?P<name>[^\]]*):\]|(?P<low>\\.|[^\\])(?:-(?P<high>\\.|[^\]\\]))?", re.DOTALL
)
_CLASSES: dict[bytes | None, bytes] = {
    None: b"",
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x01-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"\x21-\x7e",
    b"lower": rb"a-z",
    b"print": rb"\x20-\x7e",
    b"punct": rb"\x21-\x2f\x3a-\x40\x5b-\x60\x7b-\x7e",
    b"space": rb" \t\n\v\f\r",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}


class Rules(NamedTuple):
    """The patterns of one ignore file, the last one first, joined in one expression.

    base: the file's folder below the root, empty or ended by `/`.
    """

    base: bytes
    expression: re.Pattern[bytes]
    negated: tuple[bool, ...]

    @classmethod
    def parse(cls, text: bytes, base: bytes = b"") -> Rules:
        """The rules in an ignore file; a pattern that can match nothing is passed over."""
        parts = []
        negated = []
        for line in reversed(list(_lines(text))):
            negated.append(line.startswith(b"!"))
            parts.append(b"(" + _expression(line.removeprefix(b"!")) + b")")
        return cls(base, re.compile(b"|".join(parts) or _NEVER, re.DOTALL), tuple(negated))

    def ignores(self, path: bytes, name: bytes, folder: bool) -> bool | None:
        """Whether a file or folder is ignored; None where the rules say nothing of it.

        path: from the root, below `base`. name: its last part.
        """
        end = b"\0/" if folder else b"\0"
        match = self.expression.match(name + b"\0" + path[len(self.base) :] + end)
        if match is None or match.lastindex is None:
            return None
        return not self.negated[match.lastindex - 1]


def _lines(text: bytes) -> Iterator[bytes]:
    for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        line = _without_trailing_spaces(line.removesuffix(b"\r").partition(b"\0")[0])
        if line and not line.startswith(b"#"):
            yield line


def _without_trailing_spaces(line: bytes) -> bytes:
    kept = line.rstrip(b" ")
    if len(kept) == len(line):
        return line
    backslashes = len(kept) - len(kept.rstrip(b"\\"))
    return kept + b" " if backslashes % 2 else kept


def _expression(pattern: bytes) -> bytes:
    """The pattern, to be matched at the start of: name, NUL, path, NUL, and `/` for a folder."""
    end = rb"\0/" if pattern.endswith(b"/") else rb"\0"
    pattern = pattern.removesuffix(b"/")
    if not pattern:
        return _NEVER
    if b"/" in pattern:
        return rb"[^\0]*\0" + _glob(pattern.removeprefix(b"/")) + end
    return _glob(pattern) + rb"\0[^\0]*" + end


def _glob(pattern: bytes) -> bytes:
    """A wildcard pattern as a regular expression."""
    special = _SPECIAL.search(pattern)
    # git compares the part before the first wildcard by itself, so `**` right behind it counts
    # as if it began the pattern.
    literal = special.start() if special else len(pattern)
    parts = [re.escape(pattern[:literal])]
    at = literal
    while at < len(pattern):
        character = pattern[at : at + 1]
        if character == b"*":
            part, at = _stars(pattern, at, literal)
        elif character == b"[":
            part, at = _bracket(pattern, at + 1)
        elif character == b"?":
            part, at = b"[^/\0]", at + 1
        elif character == b"\\":
            escaped = pattern[at + 1 : at + 2]
            part, at = (re.escape(escaped) if escaped else _NEVER), at + 2
        else:
            part, at = re.escape(character), at + 1
        parts.append(part)
    return b"".join(parts)


def _stars(pattern: bytes, at: int, literal: int) -> tuple[bytes, int]:
    """The expression of a row of `*`, and where it ends. `**` crosses `/` if it stands alone."""
    end = at
    while pattern[end : end + 1] == b"*":
        end += 1
    alone = at == literal or pattern[at - 1 : at] == b"/"
    behind = pattern[end:]
    if end - at < 2 or not alone:
        return b"[^/\0]*", end
    if behind.startswith(b"/"):
        return b"(?:[^\0]*/)?", end + 1
    if not behind or behind.startswith(b"\\/"):
        return b"[^\0]*", end
    return b"[^/\0]*", end


def _bracket(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The expression of a set that begins behind its `[`, and where it ends."""
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    members: list[bytes] = []
    while not members or pattern[at : at + 1] != b"]":
        member = _MEMBER.match(pattern, at)
        if member is None or member["name"] not in _CLASSES:
            return _NEVER, len(pattern)
        members.append(_CLASSES[member["name"]] or _range(member["low"], member["high"]))
        at = member.end()
    opening = b"[^/\0" if negated else b"(?!/)["
    return opening + b"".join(members) + b"]", at + 1


def _range(low: bytes, high: bytes | None) -> bytes:
    """One byte, or all from low to high; of a range that runs backwards git takes the first."""
    first, last = low[-1], (high or low)[-1]
    return b"\\x%02x-\\x%02x" % (first, max(first, last))
