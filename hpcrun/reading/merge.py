"""One tree over another: mappings merge, lists and scalars replace, a list at `name+` appends."""

from __future__ import annotations

from hpcrun.reading.tree import Branch, Tree

APPENDS = "+"


def merged(base: Tree, over: Tree) -> Tree:
    """The first tree with what the second one holds in its place; each part keeps its origin."""
    if not isinstance(base, Branch) or not isinstance(over, Branch):
        return over
    if base.is_list or over.is_list:
        return over
    held = dict(base.items)
    for key, item in over.items:
        name = key.removesuffix(APPENDS)
        before = name if name in held or key not in held else key
        if key != name and before in held:
            held[before] = _appended(held[before], item)
        elif key == name and name in held:
            held[name] = merged(held[name], item)
        else:
            held[key] = item
    return over._replace(items=list(held.items()))


def settled(tree: Tree) -> Tree:
    """The same where nothing is left that a `name+` could be appended to: each is a `name`."""
    if not isinstance(tree, Branch):
        return tree
    named = not tree.is_list
    items = [
        (key.removesuffix(APPENDS) if named else key, settled(item)) for key, item in tree.items
    ]
    return tree._replace(items=items)


def _appended(base: Tree, more: Tree) -> Tree:
    """A list after a list; of anything else the second."""
    if isinstance(base, Branch) and isinstance(more, Branch) and base.is_list and more.is_list:
        return more._replace(items=[*base.items, *more.items])
    return more
