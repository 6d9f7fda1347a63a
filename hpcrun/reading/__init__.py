"""Reads YAML into typed values, and tells everything that is wrong with a file at once.

Types are dataclasses of text, numbers, lists, mappings and further dataclasses. YAML 1.2: `on`,
`yes` and `12:00:00` are text. Where text is wanted a scalar counts as it is written, so `1e-3`,
`007` and `true` arrive unchanged. Values made in Python go through the same checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

from hpcrun.errors import ConfigError, Problem
from hpcrun.reading.build import Builder
from hpcrun.reading.merge import APPENDS, merged, settled
from hpcrun.reading.nearest import nearest
from hpcrun.reading.override import overridden
from hpcrun.reading.parse import parsed, plain_scalar
from hpcrun.reading.python import tree_of
from hpcrun.reading.read import Finding, Kind, Raised, Read
from hpcrun.reading.tree import Branch, Endless, Leaf, Origin, Tree, items, leaves, part_of, plain

__all__ = [
    "Finding",
    "Layer",
    "Origin",
    "Read",
    "check_value",
    "nearest",
    "plain_of",
    "plain_scalar",
    "read_layer",
    "read_layers",
    "read_partly",
    "read_plain",
    "read_value",
    "scalars",
    "with_overrides",
]


def read_partly(
    kind: type[Kind],
    text: str,
    file: str,
    *,
    overrides: Sequence[str] = (),
    rename: Callable[[str], str] = str,
    error: Raised = ConfigError,
) -> Read[Kind]:
    """The value in a YAML text as far as it could be read, and the problems beside it.

    Raises `error` only where there is no value: the text is no YAML, or what must be there is not.
    overrides: `key.key=value`, which win over the text. A value that begins with [ or { is YAML,
    any other a scalar as it is written. rename: from a key as written to a field's name.
    """
    problems: list[Problem] = []
    tree = _parsed(text, file, problems, error)
    if isinstance(tree, Branch) and not tree.is_list:
        for override in overrides:
            tree = overridden(tree, override, problems)
    return _built(kind, tree, problems, rename, error)


class Layer(NamedTuple):
    """What stands in a YAML text, of which others may be laid on top, and what is wrong with it."""

    tree: Tree
    problems: tuple[Problem, ...] = ()

    def part(self, *path: str) -> Layer | None:
        """What it holds under a key, and another key of that, and so on."""
        found = part_of(self.tree, *path)
        return None if found is None else Layer(found)

    @property
    def file(self) -> str:
        """Where it stands."""
        return self.tree.origin.source

    def only(self, key: str) -> Layer:
        """The same without what stands under other keys."""
        if not isinstance(self.tree, Branch):
            return self
        items = [
            (name, item) for name, item in self.tree.items if name.removesuffix(APPENDS) == key
        ]
        return Layer(self.tree._replace(items=items))

    def texts(self, key: str) -> Mapping[str, Origin]:
        """The texts in the list under a key, each with its place."""
        found = part_of(self.tree, key)
        leaves = [item for item in items(found) if isinstance(item, Leaf)] if found else ()
        return {leaf.text: leaf.origin for leaf in leaves}


def read_layer(text: str, file: str, error: Raised = ConfigError) -> Layer:
    """What stands in a YAML text. Raises `error` if that is no YAML."""
    problems: list[Problem] = []
    return Layer(_parsed(text, file, problems, error), tuple(problems))


def read_layers(
    kind: type[Kind], layers: Sequence[Layer], error: Raised = ConfigError
) -> Read[Kind]:
    """The value of several layers, of which later ones win (see `merge`); as `read_partly`."""
    problems = [problem for layer in layers for problem in layer.problems]
    return _built(kind, _on_one_another(layers), problems, str, error)


def scalars(layers: Sequence[Layer]) -> Sequence[tuple[str, str, Origin]]:
    """(a.b[0], text, where it was given) of all that several layers hold in the end."""
    return [(key, leaf.text, leaf.origin) for key, leaf in leaves(_on_one_another(layers))]


def _on_one_another(layers: Sequence[Layer]) -> Tree:
    return settled(reduce(merged, (layer.tree for layer in layers)))


def read_plain(text: str, file: str, error: Raised = ConfigError) -> Any:
    """What stands in a YAML text: dicts, lists and scalars, checked for nothing."""
    problems: list[Problem] = []
    tree = _parsed(text, file, problems, error)
    if problems:
        raise error(*problems)
    return plain(tree)


def read_value(kind: type[Kind], value: Kind, error: Raised = ConfigError) -> Read[Kind]:
    """A copy of a value made in Python, and its problems; as `read_partly`."""
    try:
        tree = tree_of(value, 0)
    except Endless as endless:
        raise error(Problem(str(endless))) from None
    return _built(kind, tree, [], str, error)


def plain_of(value: object) -> Any:
    """A value made in Python as dicts, lists and scalars, as a text would hold it."""
    return plain(tree_of(value, 0))


def check_value(kind: type[Kind], value: Kind, error: Raised = ConfigError) -> Kind:
    """A checked copy of a value made in Python. Raises `error` with every problem."""
    return read_value(kind, value, error).sound(error).value


def with_overrides(kind: type[Kind], read: Read[Kind], overrides: Sequence[str]) -> Read[Kind]:
    """The same with `key.key=value` in place of what it holds."""
    problems = list(read.problems)
    tree = tree_of(read.value, 0)
    for override in overrides:
        tree = overridden(tree, override, problems)
    built = _built(kind, tree, problems, str, ConfigError)
    told = {key: origin for key, origin in built.origins.items() if origin.source}
    return replace(
        built,
        origins={**read.origins, **told},
        wrong=read.wrong | built.wrong,
        misread=read.misread | built.misread,
    )


def _parsed(text: str, file: str, problems: list[Problem], error: Raised) -> Tree:
    tree = parsed(text, file, problems)
    if tree is None:
        raise error(*problems)
    return tree


def _built(
    kind: type[Kind],
    tree: Tree,
    problems: list[Problem],
    rename: Callable[[str], str],
    error: Raised,
) -> Read[Kind]:
    builder = Builder(rename, problems)
    value = builder.build(kind, tree, "")
    told = tuple(dict.fromkeys(builder.problems))
    if value is None:
        raise error(*told)
    wrong, misread = frozenset(builder.wrong), frozenset(builder.misread)
    return Read(value, builder.origins, told, wrong, misread)
