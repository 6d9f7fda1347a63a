"""Options to tree: `key.key=value` in place of what a tree holds."""

from __future__ import annotations

from collections.abc import Sequence

from hpcrun.errors import Problem
from hpcrun.reading.parse import parsed, plain_scalar
from hpcrun.reading.tree import Branch, Leaf, Origin, Tree


def overridden(tree: Tree, override: str, problems: list[Problem]) -> Tree:
    key, equals, text = override.partition("=")
    source = f"--set {key}"
    if not equals or not all(key.split(".")):
        problems.append(
            Problem(f"--set {override}: not of the form KEY=VALUE", "resources.time=2h")
        )
        return tree
    value: Tree | None = Leaf(text, plain_scalar(text), Origin(source))
    if text in ("''", '""'):
        value = Leaf("", "", Origin(source))
    elif text[:1] in ("[", "{"):
        found: list[Problem] = []
        value = parsed(text, source, found)
        problems += [problem._replace(line=None) for problem in found]
    if value is None:
        return tree
    return _placed(tree, key.split("."), _with_source(value, Origin(source)))


def _with_source(tree: Tree, origin: Origin) -> Tree:
    if isinstance(tree, Leaf):
        return tree._replace(origin=origin)
    items = [(name, _with_source(item, origin)) for name, item in tree.items]
    return Branch(items, origin, tree.is_list)


def _placed(tree: Tree, path: Sequence[str], value: Tree) -> Tree:
    if not path:
        return value
    held = dict(tree.items) if isinstance(tree, Branch) and not tree.is_list else {}
    before = held.get(path[0], Branch((), value.origin))
    held[path[0]] = _placed(before, path[1:], value)
    return Branch(list(held.items()), tree.origin)
