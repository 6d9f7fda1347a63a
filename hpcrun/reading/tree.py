"""What stands in a file, an option or a Python value, before its meaning is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Number
from types import NoneType
from typing import Any, NamedTuple, Union

DEPTH = 40
"""A value that is nested deeper is refused; an alias to its own parent has no end."""

VALUES = 100_000
"""A file with more values is refused; aliases to aliases to aliases grow without end."""


class Origin(NamedTuple):
    """Where a value was given: a file's line, or an option without one."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


class Leaf(NamedTuple):
    """A scalar: its text as written, and what YAML makes of it (None, bool, int, float, str)."""

    text: str
    value: Any
    origin: Origin


class Branch(NamedTuple):
    """A mapping, or a sequence, whose keys are empty. made: the class of a dataclass in Python."""

    items: Sequence[tuple[str, Tree]]
    origin: Origin
    is_list: bool = False
    made: type | None = None


Tree = Union[Leaf, "Branch"]


class Endless(Exception):
    """A value without an end, or so large that it might as well have none."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def items(tree: Tree) -> list[Tree]:
    """What a sequence or mapping holds, without keys."""
    return [item for _, item in tree.items] if isinstance(tree, Branch) else []


def part_of(tree: Tree, *path: str) -> Tree | None:
    """What a tree holds under a key, and another key of that, and so on."""
    for key in path:
        held = dict(tree.items) if isinstance(tree, Branch) and not tree.is_list else {}
        if key not in held:
            return None
        tree = held[key]
    return tree


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """(a.b[0], scalar) of all that a tree holds."""
    if isinstance(tree, Leaf):
        yield path, tree
        return
    for number, (key, item) in enumerate(tree.items):
        inner = f"{path}[{number}]" if tree.is_list else f"{path}.{key}" if path else key
        yield from leaves(item, inner)


def plain(tree: Tree) -> Any:
    """Dicts, lists and scalars."""
    if isinstance(tree, Leaf):
        return tree.value
    if tree.is_list:
        return [plain(item) for item in items(tree)]
    return {name: plain(item) for name, item in tree.items}


def shown(tree: Tree) -> str:
    """What was given, for a sentence."""
    if isinstance(tree, Branch):
        if tree.made is not None:
            return a_kind(tree.made)
        return "a list" if tree.is_list else "a mapping"
    if tree.value is None and not tree.text:
        return "nothing"
    if not isinstance(tree.value, (str, Number, NoneType)):
        return a_kind(type(tree.value))
    return repr(tree.text if len(tree.text) <= 60 else tree.text[:57] + "…")


def a_kind(kind: type) -> str:
    """The name of a class with its article."""
    return f"{'an' if kind.__name__[0] in 'AEIOUaeiou' else 'a'} {kind.__name__}"
