"""Reads YAML into typed values, and tells everything that is wrong with a file at once.

Types are dataclasses of text, numbers, lists, mappings and further dataclasses. YAML 1.2: `on`,
`yes` and `12:00:00` are text. Where text is wanted a scalar counts as it is written, so `1e-3`,
`007` and `true` arrive unchanged. Values made in Python go through the same checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from hpcrun.errors import ConfigError, HpcrunError, Problem
from hpcrun.reading.build import Builder
from hpcrun.reading.nearest import nearest
from hpcrun.reading.override import overridden
from hpcrun.reading.parse import parsed, plain_scalar
from hpcrun.reading.python import tree_of
from hpcrun.reading.tree import Branch, Endless, Origin, Tree, plain

__all__ = [
    "Origin",
    "Read",
    "check_value",
    "nearest",
    "plain_scalar",
    "read_plain",
    "read_text",
    "with_overrides",
]

Kind = TypeVar("Kind")

Raised = Callable[..., HpcrunError]
"""An error that takes problems, such as ConfigError."""


@dataclass(frozen=True)
class Read(Generic[Kind]):
    """A value, and where each of its parts was given (`resources.time` → run.yaml:7)."""

    value: Kind
    origins: Mapping[str, Origin]


def read_text(
    kind: type[Kind],
    text: str,
    file: str,
    *,
    overrides: Sequence[str] = (),
    rename: Callable[[str], str] = str,
    also: Callable[[Read[Kind]], Iterable[Problem]] = lambda read: (),
    error: Raised = ConfigError,
) -> Read[Kind]:
    """The value in a YAML text. Raises `error` with every problem.

    also: where something is wrong, what else is, in the value of all that could be read.

    overrides: `key.key=value`, which win over the text. A value that begins with [ or { is YAML,
    any other a scalar as it is written. rename: from a key as written to a field's name.
    """
    problems: list[Problem] = []
    tree = parsed(text, file, problems)
    if tree is None:
        raise error(*problems)
    if isinstance(tree, Branch) and not tree.is_list:
        for override in overrides:
            tree = overridden(tree, override, problems)
    return _build(kind, tree, error, rename, problems, also)


def read_plain(text: str, file: str, error: Raised = ConfigError) -> Any:
    """What stands in a YAML text: dicts, lists and scalars, checked for nothing."""
    problems: list[Problem] = []
    tree = parsed(text, file, problems)
    if tree is None or problems:
        raise error(*problems)
    return plain(tree)


def check_value(kind: type[Kind], value: Kind, error: Raised = ConfigError) -> Kind:
    """A checked copy of a value made in Python. Raises `error` with every problem."""
    try:
        tree = tree_of(value, 0)
    except Endless as endless:
        raise error(Problem(str(endless))) from None
    return _build(kind, tree, error).value


def with_overrides(kind: type[Kind], value: Kind, overrides: Sequence[str]) -> Read[Kind]:
    """A checked copy with `key.key=value` in place of what it holds; origins of these alone."""
    problems: list[Problem] = []
    tree = tree_of(value, 0)
    for override in overrides:
        tree = overridden(tree, override, problems)
    read = _build(kind, tree, ConfigError, str, problems)
    return Read(read.value, {key: told for key, told in read.origins.items() if told.source})


def _build(
    kind: type[Kind],
    tree: Tree,
    error: Raised,
    rename: Callable[[str], str] = str,
    problems: Sequence[Problem] = (),
    also: Callable[[Read[Kind]], Iterable[Problem]] = lambda read: (),
) -> Read[Kind]:
    builder = Builder(rename, list(problems))
    read = Read(builder.build(kind, tree, ""), builder.origins)
    if builder.problems:
        more = also(read) if read.value is not None else ()
        raise error(*dict.fromkeys((*builder.problems, *more)))
    return read
