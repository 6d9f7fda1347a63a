"""Python values to tree, so that they go through the same checks as a file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from hpcrun.forms import as_text
from hpcrun.reading.tree import DEPTH, Branch, Endless, Leaf, Origin, Tree


def tree_of(value: Any, depth: int) -> Tree:
    """The tree of a value made in Python. A field that is None counts as not given."""
    origin = Origin("")
    if depth > DEPTH:
        raise Endless(f"nested more than {DEPTH} levels deep")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = getattr(value, "kind", None)
        given = {"kind": kind} if isinstance(kind, str) else {}
        given |= {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        # An attribute that is no field was meant to be one.
        given |= {n: v for n, v in vars(value).items() if not n.startswith("_")}
        items = [(n, tree_of(v, depth + 1)) for n, v in given.items() if v is not None]
        return Branch(items, origin, made=type(value))
    if isinstance(value, Mapping):
        return Branch([(str(k), tree_of(v, depth + 1)) for k, v in value.items()], origin)
    if isinstance(value, (list, tuple)):
        return Branch([("", tree_of(item, depth + 1)) for item in value], origin, True)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, timedelta):
        value = f"{value.total_seconds():.0f}s"
    if isinstance(value, str):
        return Leaf(str.__str__(value), value, origin)  # an enum's own __str__ gives its name
    text = "" if value is None else as_text(value)
    if getattr(value, "shape", None) == ():  # a scalar of NumPy or a tensor without dimensions
        value = value.item()
        text = text if "(" not in text else str(value)
    return Leaf(text, value, origin)
