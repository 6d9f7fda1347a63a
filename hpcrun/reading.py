"""Reads YAML into typed values, and tells everything that is wrong with a file at once.

Types are dataclasses of text, numbers, lists, mappings and further dataclasses. YAML 1.2: `on`,
`yes` and `12:00:00` are text. Where text is wanted a scalar counts as it is written, so `1e-3`,
`007` and `true` arrive unchanged. Values made in Python go through the same checks.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, Literal, NamedTuple, TypeVar, Union

from hpcrun.errors import ConfigError, HpcrunError, Problem

Kind = TypeVar("Kind")

DEPTH = 40
"""A value that is nested deeper is refused; an alias to its own parent has no end."""


class Origin(NamedTuple):
    """Where a value was given: a file's line, or an option without one."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Read(Generic[Kind]):
    """A value, and where each of its parts was given (`resources.time` → run.yaml:7)."""

    value: Kind
    origins: Mapping[str, Origin]


# -- the tree: what stands in a file, before its meaning is known --------------------------------


class Leaf(NamedTuple):
    """A scalar: its text as written, and what YAML makes of it (None, bool, int, float, str)."""

    text: str
    value: Any
    origin: Origin


class Branch(NamedTuple):
    """A mapping, or with keys None a sequence."""

    items: Sequence[tuple[str, Tree]]
    origin: Origin
    is_list: bool = False


Tree = Union[Leaf, "Branch"]


def read_text(
    kind: type[Kind],
    text: str,
    file: str,
    *,
    overrides: Sequence[str] = (),
    rename: Callable[[str], str] = str,
    error: type[HpcrunError] = ConfigError,
) -> Read[Kind]:
    """The value in a YAML text. Raises `error` with every problem.

    overrides: `key.key=value`, which win over the text. A value that begins with [ or { is YAML,
    any other a scalar as it is written. rename: from a key as written to a field's name.
    """
    problems: list[Problem] = []
    tree = _parsed(text, file, problems)
    if tree is None:
        raise error(*problems)
    for override in overrides:
        tree = _overridden(tree, override, problems)
    return _build(kind, tree, error, rename, problems)


def check_value(kind: type[Kind], value: Kind, error: type[HpcrunError] = ConfigError) -> Kind:
    """A checked copy of a value made in Python. Raises `error` with every problem."""
    return _build(kind, _tree_of(value, Origin(""), 0), error).value


def _build(
    kind: type[Kind],
    tree: Tree,
    error: type[HpcrunError],
    rename: Callable[[str], str] = str,
    problems: Sequence[Problem] = (),
) -> Read[Kind]:
    builder = _Builder(rename, list(problems))
    value = builder.build(kind, tree, "")
    if builder.problems:
        raise error(*builder.problems)
    return Read(value, builder.origins)


# -- YAML to tree -------------------------------------------------------------------------------


def _parsed(text: str, file: str, problems: list[Problem]) -> Tree | None:
    """The tree of a YAML text; None after an error of syntax, which hides all that follows."""
    from ruamel.yaml import YAML, YAMLError  # 20 ms, not needed by `hpcrun list`

    try:
        node = YAML(typ="safe", pure=True).compose(text)
        if node is None:
            return Branch((), Origin(file, 1))
        return _tree_of_node(node, file, problems, 0)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark is not None else None
        said = getattr(error, "problem", None) or str(error).splitlines()[0]
        problems.append(Problem(f"not YAML: {said}", "", file, line))
        return None


def _tree_of_node(node: Any, file: str, problems: list[Problem], depth: int) -> Tree:
    origin = Origin(file, node.start_mark.line + 1)
    if depth > DEPTH:
        problems.append(Problem(f"nested more than {DEPTH} levels deep", "", file, origin.line))
        return Leaf("", None, origin)
    if isinstance(node.value, str):
        return Leaf(node.value, _plain_value(str(node.tag), node.value), origin)
    if str(node.tag).endswith(":map"):
        return Branch(_pairs(node, file, problems, depth), origin)
    items = [("", _tree_of_node(item, file, problems, depth + 1)) for item in node.value]
    return Branch(items, origin, True)


def _pairs(node: Any, file: str, problems: list[Problem], depth: int) -> list[tuple[str, Tree]]:
    """A mapping's items; those of a merge key (`<<: *base`) stand behind its own."""
    own: dict[str, Tree] = {}
    merged: dict[str, Tree] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key.value, str):
            problems.append(Problem("a key must be a word", "", file, line))
            continue
        tree = _tree_of_node(value, file, problems, depth + 1)
        if str(key.tag).endswith(":merge"):
            sources = [tree] if isinstance(tree, Branch) and not tree.is_list else _items(tree)
            for source in sources:
                for name, item in source.items if isinstance(source, Branch) else ():
                    merged.setdefault(name, item)
        elif key.value in own:
            first = own[key.value].origin.line
            problems.append(
                Problem(f"`{key.value}` is given twice", f"first on line {first}", file, line)
            )
        else:
            # A problem of the value is told at its key: a block begins a line below.
            own[key.value] = tree._replace(origin=Origin(file, line))
    return list({**merged, **own}.items())


def _items(tree: Tree) -> list[Tree]:
    return [item for _, item in tree.items] if isinstance(tree, Branch) else []


def _plain_value(tag: str, text: str) -> Any:
    """What YAML 1.2 makes of a scalar."""
    name = tag.rpartition(":")[2]
    try:
        if name == "int":
            return int(text.replace("_", ""), 0) if text[:2] in ("0x", "0o") else int(text)
        if name == "float":
            return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        return text
    if name == "bool":
        return text.lower() == "true"
    return None if name == "null" else text


# -- options and Python values to tree ----------------------------------------------------------


def _overridden(tree: Tree, override: str, problems: list[Problem]) -> Tree:
    key, equals, text = override.partition("=")
    source = f"--set {key}"
    if not equals or not all(key.split(".")):
        problems.append(
            Problem(f"--set {override}: not of the form KEY=VALUE", "resources.time=2h")
        )
        return tree
    value: Tree | None = Leaf(text, _resolved(text), Origin(source))
    if text[:1] in ("[", "{"):
        value = _parsed(text, source, problems)
    if value is None:
        return tree
    return _placed(tree, key.split("."), _with_source(value, Origin(source)))


def _resolved(text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import ScalarNode

    tag = YAML(typ="safe", pure=True).resolver.resolve(ScalarNode, text, (True, False))
    return _plain_value(str(tag), text)


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


def _tree_of(value: Any, origin: Origin, depth: int) -> Tree:
    """The tree of a value made in Python. What is None counts as not given."""
    if depth > DEPTH:
        return Leaf("", None, origin)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = getattr(value, "kind", None)
        given = [("kind", kind)] if isinstance(kind, str) else []
        given += [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
        items = [(n, _tree_of(v, origin, depth + 1)) for n, v in given if v is not None]
        return Branch(items, origin)
    if isinstance(value, Mapping):
        return Branch([(str(k), _tree_of(v, origin, depth + 1)) for k, v in value.items()], origin)
    if isinstance(value, (list, tuple)):
        return Branch([("", _tree_of(item, origin, depth + 1)) for item in value], origin, True)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return Leaf(str(value), value, origin)


# -- tree to value ------------------------------------------------------------------------------


@dataclass
class _Builder:
    rename: Callable[[str], str]
    problems: list[Problem]
    origins: dict[str, Origin] = field(default_factory=dict)

    def build(self, kind: Any, tree: Tree, path: str) -> Any:
        """The value of a tree; None after a problem."""
        if path:
            self.origins[path] = tree.origin
        choices = _choices(kind)
        if types.NoneType in choices and isinstance(tree, Leaf) and tree.value is None:
            return None
        choices = tuple(choice for choice in choices if choice is not types.NoneType)
        if len(choices) > 1:
            return self._build_one_of(choices, tree, path)
        return self._build_kind(choices[0], tree, path)

    def _build_kind(self, kind: Any, tree: Tree, path: str) -> Any:
        if kind is Any:
            return _plain(tree)
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
            fitting = [c for c in choices if not _is_compound(c)]
        elif tree.is_list:
            fitting = [c for c in choices if typing.get_origin(c) in (tuple, list)]
        else:
            fitting = [c for c in choices if dataclasses.is_dataclass(c)]
            if len(fitting) > 1:
                return self._build_by_kind(fitting, tree, path)
        if not fitting:
            wanted = " or ".join(dict.fromkeys(_name(c) for c in choices))
            return self._refuse(tree, path, f"must be {wanted}, not {_shown(tree)}")
        return self._build_kind(fitting[0], tree, path)

    def _build_by_kind(self, choices: Sequence[Any], tree: Branch, path: str) -> Any:
        known = {choice.kind: choice for choice in choices}
        given = dict(tree.items).get("kind")
        if not isinstance(given, Leaf):
            return self._refuse(tree, path, "needs a `kind`", f"one of {', '.join(known)}")
        chosen = known.get(given.text.lower())
        if chosen is None:
            hint = nearest(given.text.lower(), known)
            return self._refuse(given, f"{path}.kind", f"cannot be {given.text!r}", hint)
        rest = [(name, item) for name, item in tree.items if name != "kind"]
        return self._build_dataclass(chosen, tree._replace(items=rest), path)

    def _build_dataclass(self, kind: Any, tree: Tree, path: str) -> Any:
        if not isinstance(tree, Branch) or tree.is_list:
            what = f"`{path}`" if path else "the file"
            return self._tell(tree, f"{what} must be a mapping of keys, not {_shown(tree)}")
        hints = _hints(kind)
        fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
        given: dict[str, Any] = {}
        for key, item in tree.items:
            name = self.rename(key)
            if name not in fields:
                place = f"{path}.{key}" if path else key
                known = [f"{path}.{n}" if path else n for n in fields]
                self._tell(item, f"there is no key `{place}`", nearest(place, known))
            else:
                given[name] = self.build(hints[name], item, f"{path}.{name}" if path else name)
        for name, one in fields.items():
            if name not in given and one.default is one.default_factory is dataclasses.MISSING:
                self._tell(tree, f"the key `{path}.{name}` is missing".replace("`.", "`"))
        return None if self.problems else kind(**given)

    def _build_list(self, kind: Any, item_kind: Any, tree: Tree, path: str) -> Any:
        if not isinstance(tree, Branch) or not tree.is_list:
            return self._refuse(tree, path, f"must be a list, not {_shown(tree)}", "[a, b]")
        return kind(
            self.build(item_kind, item, f"{path}[{n}]") for n, item in enumerate(_items(tree))
        )

    def _build_mapping(self, item_kind: Any, tree: Tree, path: str) -> Any:
        if not isinstance(tree, Branch) or (tree.is_list and tree.items):
            return self._refuse(tree, path, f"must be a mapping, not {_shown(tree)}", "{a: b}")
        return {name: self.build(item_kind, item, f"{path}.{name}") for name, item in tree.items}

    def _build_literal(self, known: Sequence[str], tree: Tree, path: str) -> Any:
        if isinstance(tree, Leaf):
            for word in known:
                if tree.text.lower() == word.lower():
                    return word
        hint = nearest(tree.text.lower(), known) if isinstance(tree, Leaf) else ""
        return self._refuse(tree, path, f"cannot be {_shown(tree)}", hint)

    def _build_scalar(self, kind: Any, tree: Tree, path: str) -> Any:
        if not isinstance(tree, Leaf):
            return self._refuse(tree, path, f"must be {_NAMES[kind]}, not {_shown(tree)}")
        if kind is str:
            return self._build_text(tree, path)
        value = tree.value
        fits = {
            bool: isinstance(value, bool),
            int: isinstance(value, int) and not isinstance(value, bool),
            float: isinstance(value, (int, float)) and not isinstance(value, bool),
        }[kind]
        if not fits:
            hint = "true or false" if kind is bool else ""
            return self._refuse(tree, path, f"must be {_NAMES[kind]}, not {_shown(tree)}", hint)
        return kind(value)

    def _build_text(self, tree: Leaf, path: str) -> Any:
        if tree.value is None and not tree.text:
            return self._refuse(tree, path, "is empty", "write '' for an empty text")
        if "\0" in tree.text:
            return self._refuse(tree, path, "holds a NUL character", "no program can receive it")
        if not isinstance(tree.value, (str, int, float, types.NoneType)) and not hasattr(
            tree.value, "__index__"
        ):
            if not hasattr(tree.value, "__float__"):
                kind = type(tree.value).__name__
                return self._refuse(tree, path, f"must be a text or number, not a {kind}")
        return tree.text

    def _refuse(self, tree: Tree, path: str, why: str, hint: str = "") -> None:
        self._tell(tree, f"`{path}` {why}", hint)

    def _tell(self, tree: Tree, message: str, hint: str = "") -> None:
        self.problems.append(Problem(message, hint, tree.origin.source, tree.origin.line))


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _name(kind: Any) -> str:
    if kind in _NAMES:
        return _NAMES[kind]
    return "a list" if typing.get_origin(kind) in (tuple, list) else "a mapping"


def _plain(tree: Tree) -> Any:
    if isinstance(tree, Leaf):
        return tree.value
    if tree.is_list:
        return [_plain(item) for item in _items(tree)]
    return {name: _plain(item) for name, item in tree.items}


def _is_compound(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or typing.get_origin(kind) in (tuple, list, dict, Mapping)


def _choices(kind: Any) -> tuple[Any, ...]:
    union = typing.get_origin(kind) in (Union, types.UnionType)
    return typing.get_args(kind) if union else (kind,)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _shown(tree: Tree) -> str:
    if isinstance(tree, Branch):
        return "a list" if tree.is_list else "a mapping"
    if tree.value is None and not tree.text:
        return "nothing"
    return repr(tree.text if len(tree.text) <= 60 else tree.text[:57] + "…")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint: the known word that is meant, or all of them if they are few."""
    known = list(known)
    near = difflib.get_close_matches(word, known, 1)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known are {', '.join(known)}" if known else ""
