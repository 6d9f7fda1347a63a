"""Slurm's node lists, such as `n[1-3,07],gpu[1-2]x`, as names. Pure.

Since 23.11 something may follow the last bracket; several brackets are as old as Slurm.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

MOST = 65536
"""Nodes in a list that is believed; Slurm's own limit is the same."""

_NONE = frozenset(("", "(null)", "None", "None assigned", "N/A", "n/a"))

_ITEM = re.compile(r"(?:[^\[\],]|\[[^\[\]]*\])+")
_PIECE = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?\Z")


def expand(text: str) -> tuple[str, ...]:
    """The names in a node list, in order; one that cannot be read stays as it is."""
    if text.strip() in _NONE:
        return ()
    items = _ITEM.findall(text.strip())
    if ",".join(items) != text.strip():
        return (text,)
    names: list[str] = []
    for item in items:
        names += itertools.islice(_expand_item(item), MOST + 1 - len(names))
        if len(names) > MOST:
            return (text,)
    return tuple(names)


def _expand_item(item: str) -> Iterator[str]:
    choices: list[Sequence[str]] = []
    for bracket, literal in _PIECE.findall(item):
        values = [literal] if literal else _values(bracket)
        if values is None:
            return iter((item,))
        choices.append(values)
    count = 1
    for values in choices:
        count *= len(values)
    if count > MOST:
        return iter([item] * (MOST + 1))
    return map("".join, itertools.product(*choices))


def _values(bracket: str) -> Sequence[str] | None:
    """What a bracket stands for; the zeros of a range's first number tell the width of all."""
    values: list[str] = []
    for part in bracket.split(","):
        match = _RANGE.match(part)
        if match is None:
            return None
        first, last = match.group(1), match.group(2) or match.group(1)
        if int(last) < int(first) or int(last) - int(first) >= MOST:
            return None
        values += [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    return values
