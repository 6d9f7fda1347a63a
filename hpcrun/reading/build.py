"""Tree to typed value: every problem with its place, every part with its origin."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Number
from typing import Any, Literal

from hpcrun.errors import Problem
from hpcrun.forms import PRINTED_BITS
from hpcrun.reading.kinds import (
    NAMES,
    choices_of,
    default_of,
    fields_of,
    has_default,
    hints_of,
    is_compound,
    name_of,
    nearest_key,
)
from hpcrun.reading.nearest import nearest
from hpcrun.reading.tree import Branch, Leaf, Origin, Tree, items, plain, shown

FLOAT_BITS = 1024
"""Every int of fewer bits lies among the floats."""


@dataclass
class Builder:
    """Makes a value of a tree. What has a problem is left out of it.

    wrong: what was left out. misread: the sections in which a key was not understood.
    """

    rename: Callable[[str], str]
    problems: list[Problem]
    origins: dict[str, Origin] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    misread: set[str] = field(default_factory=set)

    def build(self, kind: Any, tree: Tree, path: str) -> Any:
        """The value of a tree; None after a problem, unless a part could be read."""
        self.origins[path] = tree.origin
        choices = choices_of(kind)
        if types.NoneType in choices and isinstance(tree, Leaf) and tree.value is None:
            return None
        choices = tuple(choice for choice in choices if choice is not types.NoneType)
        if len(choices) > 1:
            return self._build_one_of(choices, tree, path)
        return self._build_kind(choices[0], tree, path)

    def _build_kind(self, kind: Any, tree: Tree, path: str) -> Any:
        if kind is Any:
            return plain(tree)
        if dataclasses.is_dataclass(kind):
            return self._build_dataclass(kind, tree, path)
        origin = typing.get_origin(kind) or kind
        if origin is Literal:
            return self._build_literal(typing.get_args(kind), tree, path)
        if origin in (tuple, list):
            return self._build_list(origin, typing.get_args(kind)[0], tree, path)
        if origin in (Mapping, dict):
            return self._build_mapping(typing.get_args(kind)[1], tree, path)
        return self._build_scalar(kind, tree, path)

    def _build_one_of(self, choices: Sequence[Any], tree: Tree, path: str) -> Any:
        """A union: of a scalar, a list and a mapping; of several mappings, `kind` decides."""
        if isinstance(tree, Leaf):
            fitting = [c for c in choices if not is_compound(c)]
        elif tree.is_list:
            fitting = [c for c in choices if typing.get_origin(c) in (tuple, list)]
        else:
            fitting = [c for c in choices if dataclasses.is_dataclass(c)]
            if len(fitting) > 1:
                return self._build_by_kind(fitting, tree, path)
        if not fitting:
            wanted = " or ".join(dict.fromkeys(name_of(c, tree) for c in choices))
            return self._refuse(tree, path, f"must be {wanted}, not {shown(tree)}")
        return self._build_kind(fitting[0], tree, path)

    def _build_by_kind(self, choices: Sequence[Any], tree: Branch, path: str) -> Any:
        known = {choice.kind: choice for choice in choices}
        if tree.made is not None and not issubclass(tree.made, tuple(choices)):
            wanted = " or ".join(choice.__name__ for choice in choices)
            return self._refuse(tree, path, f"must be {wanted}, not {shown(tree)}")
        given = dict(tree.items).get("kind")
        if not isinstance(given, Leaf):
            return self._refuse(tree, path, "needs a `kind`", f"one of {', '.join(known)}")
        chosen = known.get(given.text.lower())
        if chosen is None:
            hint = nearest(given.text, known)
            return self._refuse(given, f"{path}.kind", f"cannot be {shown(given)}", hint)
        rest = [(name, item) for name, item in tree.items if name != "kind"]
        return self._build_dataclass(chosen, tree._replace(items=rest), path)

    def _build_dataclass(self, kind: Any, tree: Tree, path: str) -> Any:
        made = tree.made if isinstance(tree, Branch) else None
        fits = isinstance(tree, Branch) and not tree.is_list and issubclass(made or kind, kind)
        if not isinstance(tree, Branch) or not fits:
            what = f"`{path}`" if path else "the file" if tree.origin.source else "the value"
            return self._tell(tree, f"{what} must be {name_of(kind, tree)}, not {shown(tree)}")
        fields = fields_of(kind)
        given: dict[str, Any] = {}
        for key, item in tree.items:
            name = self.rename(key)
            place = f"{path}.{key}" if path else key
            if name not in fields:
                self._tell(item, f"there is no key `{place}`", nearest_key(kind, name, path))
                self.misread.add(path)
            elif name in given:
                self._tell(item, f"`{place}` is given twice", "in two spellings")
            elif isinstance(item, Leaf) and item.value is None and has_default(fields[name]):
                given[name] = default_of(fields[name])
            else:
                inner = f"{path}.{name}" if path else name
                before = len(self.problems)
                value = self.build(hints_of(kind)[name], item, inner)
                if len(self.problems) == before or value is not None:
                    given[name] = value
                else:
                    self.wrong.add(inner)
        missing = False
        for name, one in fields.items():
            if name not in given and not has_default(one):
                missing = True
                if not self._was_told(tree, name):
                    self._tell(tree, f"the key `{path}.{name}` is missing".replace("`.", "`"))
        return None if missing else kind(**given)

    def _was_told(self, tree: Branch, name: str) -> bool:
        """Whether a key stands there, and what is wrong with it has been told."""
        return any(self.rename(key) == name for key, _ in tree.items)

    def _build_list(self, kind: Any, item_kind: Any, tree: Tree, path: str) -> Any:
        if not isinstance(tree, Branch) or not tree.is_list:
            return self._refuse(tree, path, f"must be a list, not {shown(tree)}", "[a, b]")
        before = len(self.problems)
        built = [self.build(item_kind, item, f"{path}[{n}]") for n, item in enumerate(items(tree))]
        return kind(built) if len(self.problems) == before else None

    def _build_mapping(self, item_kind: Any, tree: Tree, path: str) -> Any:
        if not isinstance(tree, Branch) or tree.is_list or tree.made is not None:
            return self._refuse(tree, path, f"must be a mapping, not {shown(tree)}", "{a: b}")
        built = {}
        for name, item in tree.items:
            before, inner = len(self.problems), f"{path}.{name}"
            self._build_text(Leaf(name, name, item.origin), path)
            value = self.build(item_kind, item, inner)
            # What could be read of a value with several parts is looked at all the same.
            if len(self.problems) == before or dataclasses.is_dataclass(value):
                built[name] = value
            else:
                self.wrong.add(inner)
        return built

    def _build_literal(self, known: Sequence[str], tree: Tree, path: str) -> Any:
        if isinstance(tree, Leaf):
            for word in known:
                if tree.text.lower() == word.lower():
                    return word
        hint = nearest(tree.text, known) if isinstance(tree, Leaf) else ""
        return self._refuse(tree, path, f"cannot be {shown(tree)}", hint)

    def _build_scalar(self, kind: Any, tree: Tree, path: str) -> Any:
        if not isinstance(tree, Leaf):
            return self._refuse(tree, path, f"must be {NAMES[kind]}, not {shown(tree)}")
        if kind is str:
            return self._build_text(tree, path)
        value = tree.value
        bits = value.bit_length() if isinstance(value, int) and type(value) is not bool else None
        fits = {
            bool: isinstance(value, bool),
            int: bits is not None and bits <= PRINTED_BITS,
            float: isinstance(value, float) or (bits is not None and bits < FLOAT_BITS),
        }[kind]
        if not fits:
            hint = "true or false" if kind is bool else ""
            return self._refuse(tree, path, f"must be {NAMES[kind]}, not {shown(tree)}", hint)
        return kind(value)

    def _build_text(self, tree: Leaf, path: str) -> Any:
        if tree.value is None and not tree.text:
            return self._refuse(tree, path, "is empty", "write '' for an empty text")
        if not isinstance(tree.value, (str, Number, types.NoneType)):
            return self._refuse(tree, path, f"must be a text or number, not {shown(tree)}")
        if "\0" in tree.text:
            return self._refuse(tree, path, "holds a NUL character", "no program can receive it")
        try:
            tree.text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return self._refuse(tree, path, f"holds half a character: {ascii(tree.text)[:60]}")
        return tree.text

    def _refuse(self, tree: Tree, path: str, why: str, hint: str = "") -> None:
        self._tell(tree, f"`{path}` {why}", hint)

    def _tell(self, tree: Tree, message: str, hint: str = "") -> None:
        self.problems.append(Problem(message, hint, tree.origin.source, tree.origin.line))
