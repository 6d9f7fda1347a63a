"""What a type is made of, and what it is called."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Union

from hpcrun.reading.nearest import nearest
from hpcrun.reading.tree import Tree, a_kind

NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def name_of(kind: Any, given: Tree) -> str:
    """What is wanted in place of what was given, for a sentence."""
    if kind in NAMES:
        return NAMES[kind]
    if typing.get_origin(kind) in (tuple, list):
        return "a list"
    named = not given.origin.source and dataclasses.is_dataclass(kind)  # made in Python
    return a_kind(kind) if named else "a mapping"


def is_compound(kind: Any) -> bool:
    """Whether a value of it holds others."""
    return dataclasses.is_dataclass(kind) or typing.get_origin(kind) in (tuple, list, dict, Mapping)


def choices_of(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of another type itself."""
    union = typing.get_origin(kind) in (Union, types.UnionType)
    return typing.get_args(kind) if union else (kind,)


@cache
def hints_of(kind: Any) -> dict[str, Any]:
    """The types of a dataclass' fields."""
    return typing.get_type_hints(kind)


def fields_of(kind: Any) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a dataclass that can be given."""
    return {f.name: f for f in dataclasses.fields(kind) if f.init}


def has_default(one: dataclasses.Field[Any]) -> bool:
    """Whether the field may be left out."""
    return not (one.default is one.default_factory is dataclasses.MISSING)


def default_of(one: dataclasses.Field[Any]) -> Any:
    """The value of a field that is left out."""
    made = one.default_factory
    return one.default if made is dataclasses.MISSING else made()


def nearest_key(kind: Any, name: str, path: str) -> str:
    """A hint: the section that has a key of that name, or the key that is meant."""
    hints = {key: hints_of(kind)[key] for key in fields_of(kind)}
    sections = [
        f"`{section}.{name}`"
        for section, hint in hints.items()
        for choice in choices_of(hint)
        if dataclasses.is_dataclass(choice) and name in hints_of(typing.cast(Any, choice))
    ]
    if sections and not path:
        return f"did you mean {' or '.join(dict.fromkeys(sections))}?"
    return nearest(name, hints, f"{path}." if path else "")
