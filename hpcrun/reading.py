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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from numbers import Number
from typing import Any, Generic, Literal, NamedTuple, TypeVar, Union

from hpcrun.errors import ConfigError, HpcrunError, Problem

Kind = TypeVar("Kind")

DEPTH = 40
"""A value that is nested deeper is refused; an alias to its own parent has no end."""

VALUES = 100_000
"""A file with more values is refused; aliases to aliases to aliases grow without end."""

Raised = Callable[..., HpcrunError]
"""An error that takes problems, such as ConfigError."""


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
    """A mapping, or a sequence, whose keys are empty. made: the class of a dataclass in Python."""

    items: Sequence[tuple[str, Tree]]
    origin: Origin
    is_list: bool = False
    made: type | None = None


Tree = Union[Leaf, "Branch"]


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
    tree = _parsed(text, file, problems)
    if tree is None:
        raise error(*problems)
    if isinstance(tree, Branch) and not tree.is_list:
        for override in overrides:
            tree = _overridden(tree, override, problems)
    return _build(kind, tree, error, rename, problems, also)


def read_plain(text: str, file: str, error: Raised = ConfigError) -> Any:
    """What stands in a YAML text: dicts, lists and scalars, checked for nothing."""
    problems: list[Problem] = []
    tree = _parsed(text, file, problems)
    if tree is None or problems:
        raise error(*problems)
    return _plain(tree)


def check_value(kind: type[Kind], value: Kind, error: Raised = ConfigError) -> Kind:
    """A checked copy of a value made in Python. Raises `error` with every problem."""
    try:
        tree = _tree_of(value, 0)
    except _Endless as endless:
        raise error(Problem(str(endless))) from None
    return _build(kind, tree, error).value


def with_overrides(kind: type[Kind], value: Kind, overrides: Sequence[str]) -> Read[Kind]:
    """A checked copy with `key.key=value` in place of what it holds; origins of these alone."""
    problems: list[Problem] = []
    tree = _tree_of(value, 0)
    for override in overrides:
        tree = _overridden(tree, override, problems)
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
    builder = _Builder(rename, list(problems))
    read = Read(builder.build(kind, tree, ""), builder.origins)
    if builder.problems:
        more = also(read) if read.value is not None else ()
        raise error(*dict.fromkeys((*builder.problems, *more)))
    return read


# -- YAML to tree -------------------------------------------------------------------------------


def _parsed(text: str, file: str, problems: list[Problem]) -> Tree | None:
    """The tree of a YAML text; None after an error of syntax, which hides all that follows."""
    from ruamel.yaml import YAML  # 20 ms, not needed by `hpcrun list`
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    yaml.composer.warn_double_anchors = False  # YAML 1.2 allows it
    try:
        node = yaml.compose(text)
        if node is None or (isinstance(node.value, str) and _leaf(node, Origin("")).value is None):
            return Branch((), Origin(file, 1))
        return _Nodes(file, problems).tree(node, 0)
    except YAMLError as error:
        problems.append(_syntax_problem(error, text, file))
    except _Endless as endless:
        problems.append(Problem(str(endless), "", file, endless.line))
    except RecursionError:
        problems.append(Problem(f"nested more than {DEPTH} levels deep", "", file))
    except (ValueError, OverflowError) as error:  # an escape that is no character, "\\UFFFFFFFF"
        problems.append(Problem(f"not YAML: {error}", "", file))
    return None


def _syntax_problem(error: Any, text: str, file: str) -> Problem:
    mark, context = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or str(error).splitlines()[0]
    if hasattr(error, "position"):  # a character that YAML forbids
        return Problem(f"not YAML: {said}", "", file, text.count("\n", 0, error.position) + 1)
    line = mark.line + 1 if mark is not None else None
    hint = f"{error.context}, from line {context.line + 1}" if context and error.context else ""
    hint = "indent with spaces" if "'\\t'" in said else hint
    return Problem(f"not YAML: {said}", hint, file, line)


class _Endless(Exception):
    """A value without an end, or so large that it might as well have none."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class _Nodes:
    """Makes a tree of YAML's nodes. An alias counts as often as it stands."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.file = file
        self.problems = problems
        self.left = VALUES

    def tree(self, node: Any, depth: int) -> Tree:
        line = node.start_mark.line + 1
        self.left -= 1
        if depth > DEPTH:
            raise _Endless(f"nested more than {DEPTH} levels deep", line)
        if self.left < 0:
            raise _Endless(f"more than {VALUES} values", line)
        if (tag := str(node.tag)) not in _TAGS[node.id]:
            self.tell(f"there is no tag {tag}", line, "write the value without it")
        if isinstance(node.value, str):
            return _leaf(node, Origin(self.file, line))
        if node.id == "mapping":
            return Branch(self._pairs(node, depth), Origin(self.file, line))
        items = [("", self.tree(item, depth + 1)) for item in node.value]
        return Branch(items, Origin(self.file, line), True)

    def _pairs(self, node: Any, depth: int) -> list[tuple[str, Tree]]:
        """A mapping's items; those of a merge key (`<<: *base`) give way to its own."""
        own: dict[str, Tree] = {}
        merged: dict[str, Tree] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            tree = self.tree(value, depth + 1)
            if not isinstance(key.value, str):
                self.tell("a key must be a word", line)
            elif str(key.tag).endswith(":merge"):
                for name, item in self._merged(tree, line):
                    merged.setdefault(name, item)
            elif (name := _joined(key.value)) in own:
                first = f"first on line {own[name].origin.line}"
                self.tell(f"`{name}` is given twice", line, first)
            else:
                # A problem of the value is told at its key: a block begins a line below.
                own[name] = tree._replace(origin=Origin(self.file, line))
        return list({**merged, **own}.items())

    def _merged(self, tree: Tree, line: int) -> Iterator[tuple[str, Tree]]:
        for source in _items(tree) if isinstance(tree, Branch) and tree.is_list else [tree]:
            if isinstance(source, Branch) and not source.is_list:
                yield from source.items
            else:
                self.tell(f"`<<` takes mappings, not {_shown(source)}", line)

    def tell(self, message: str, line: int, hint: str = "") -> None:
        self.problems.append(Problem(message, hint, self.file, line))


_YAML = "tag:yaml.org,2002:"
_TAGS = {
    "mapping": {f"{_YAML}map"},
    "sequence": {f"{_YAML}seq"},
    "scalar": {
        *(f"{_YAML}{name}" for name in ("null", "bool", "int", "float", "str")),
        *(f"{_YAML}{name}" for name in ("timestamp", "value", "merge")),  # text, to YAML 1.2
    },
}


def _items(tree: Tree) -> list[Tree]:
    return [item for _, item in tree.items] if isinstance(tree, Branch) else []


def _leaf(node: Any, origin: Origin) -> Leaf:
    text = _joined(node.value)
    return Leaf(text, _plain_value(str(node.tag), text), origin)


def _joined(text: str) -> str:
    """JSON writes a character beyond U+FFFF as two escapes: `"\\ud83d\\ude00"`."""
    if not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


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
    if name == "bool":  # `%YAML 1.1` has more words for it
        return {"true": True, "false": False}.get(text.lower(), text)
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
    value: Tree | None = Leaf(text, plain_scalar(text), Origin(source))
    if text in ("''", '""'):
        value = Leaf("", "", Origin(source))
    elif text[:1] in ("[", "{"):
        found: list[Problem] = []
        value = _parsed(text, source, found)
        problems += [problem._replace(line=None) for problem in found]
    if value is None:
        return tree
    return _placed(tree, key.split("."), _with_source(value, Origin(source)))


def plain_scalar(text: str) -> Any:
    """What YAML makes of a scalar without quotes: None, bool, int, float or str."""
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


def _tree_of(value: Any, depth: int) -> Tree:
    """The tree of a value made in Python. A field that is None counts as not given."""
    origin = Origin("")
    if depth > DEPTH:
        raise _Endless(f"nested more than {DEPTH} levels deep")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = getattr(value, "kind", None)
        given = {"kind": kind} if isinstance(kind, str) else {}
        given |= {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        # An attribute that is no field was meant to be one.
        given |= {n: v for n, v in vars(value).items() if not n.startswith("_")}
        items = [(n, _tree_of(v, depth + 1)) for n, v in given.items() if v is not None]
        return Branch(items, origin, made=type(value))
    if isinstance(value, Mapping):
        return Branch([(str(k), _tree_of(v, depth + 1)) for k, v in value.items()], origin)
    if isinstance(value, (list, tuple)):
        return Branch([("", _tree_of(item, depth + 1)) for item in value], origin, True)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, timedelta):
        value = f"{value.total_seconds():.0f}s"
    if isinstance(value, str):
        return Leaf(str.__str__(value), value, origin)  # an enum's own __str__ gives its name
    text = "" if value is None else str(value)
    if getattr(value, "shape", None) == ():  # a scalar of NumPy or a tensor without dimensions
        value = value.item()
        text = text if "(" not in text else str(value)
    return Leaf(text, value, origin)


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
            wanted = " or ".join(dict.fromkeys(_name(c, tree) for c in choices))
            return self._refuse(tree, path, f"must be {wanted}, not {_shown(tree)}")
        return self._build_kind(fitting[0], tree, path)

    def _build_by_kind(self, choices: Sequence[Any], tree: Branch, path: str) -> Any:
        known = {choice.kind: choice for choice in choices}
        if tree.made is not None and not issubclass(tree.made, tuple(choices)):
            wanted = " or ".join(choice.__name__ for choice in choices)
            return self._refuse(tree, path, f"must be {wanted}, not {_shown(tree)}")
        given = dict(tree.items).get("kind")
        if not isinstance(given, Leaf):
            return self._refuse(tree, path, "needs a `kind`", f"one of {', '.join(known)}")
        chosen = known.get(given.text.lower())
        if chosen is None:
            hint = nearest(given.text, known)
            return self._refuse(given, f"{path}.kind", f"cannot be {_shown(given)}", hint)
        rest = [(name, item) for name, item in tree.items if name != "kind"]
        return self._build_dataclass(chosen, tree._replace(items=rest), path)

    def _build_dataclass(self, kind: Any, tree: Tree, path: str) -> Any:
        made = tree.made if isinstance(tree, Branch) else None
        fits = isinstance(tree, Branch) and not tree.is_list and issubclass(made or kind, kind)
        if not isinstance(tree, Branch) or not fits:
            what = f"`{path}`" if path else "the file" if tree.origin.source else "the value"
            return self._tell(tree, f"{what} must be {_name(kind, tree)}, not {_shown(tree)}")
        fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
        given: dict[str, Any] = {}
        for key, item in tree.items:
            name = self.rename(key)
            place = f"{path}.{key}" if path else key
            if name not in fields:
                self._tell(item, f"there is no key `{place}`", _nearest_key(kind, name, path))
            elif name in given:
                self._tell(item, f"`{place}` is given twice", "in two spellings")
            elif isinstance(item, Leaf) and item.value is None and _has_default(fields[name]):
                given[name] = _default(fields[name])
            else:
                inner = f"{path}.{name}" if path else name
                before = len(self.problems)
                value = self.build(_hints(kind)[name], item, inner)
                if len(self.problems) == before or dataclasses.is_dataclass(value):
                    given[name] = value
        missing = False
        for name, one in fields.items():
            if name not in given and not _has_default(one):
                missing = True
                if not self._was_told(tree, name):
                    self._tell(tree, f"the key `{path}.{name}` is missing".replace("`.", "`"))
        return None if missing else kind(**given)

    def _was_told(self, tree: Branch, name: str) -> bool:
        """Whether a key stands there, and what is wrong with it has been told."""
        return any(self.rename(key) == name for key, _ in tree.items)

    def _build_list(self, kind: Any, item_kind: Any, tree: Tree, path: str) -> Any:
        if not isinstance(tree, Branch) or not tree.is_list:
            return self._refuse(tree, path, f"must be a list, not {_shown(tree)}", "[a, b]")
        return kind(
            self.build(item_kind, item, f"{path}[{n}]") for n, item in enumerate(_items(tree))
        )

    def _build_mapping(self, item_kind: Any, tree: Tree, path: str) -> Any:
        if not isinstance(tree, Branch) or tree.is_list or tree.made is not None:
            return self._refuse(tree, path, f"must be a mapping, not {_shown(tree)}", "{a: b}")
        for name, item in tree.items:
            self._build_text(Leaf(name, name, item.origin), path)
        return {name: self.build(item_kind, item, f"{path}.{name}") for name, item in tree.items}

    def _build_literal(self, known: Sequence[str], tree: Tree, path: str) -> Any:
        if isinstance(tree, Leaf):
            for word in known:
                if tree.text.lower() == word.lower():
                    return word
        hint = nearest(tree.text, known) if isinstance(tree, Leaf) else ""
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
        if not isinstance(tree.value, (str, Number, types.NoneType)):
            return self._refuse(tree, path, f"must be a text or number, not {_shown(tree)}")
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


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _name(kind: Any, given: Tree) -> str:
    if kind in _NAMES:
        return _NAMES[kind]
    if typing.get_origin(kind) in (tuple, list):
        return "a list"
    named = not given.origin.source and dataclasses.is_dataclass(kind)  # made in Python
    return _a(kind) if named else "a mapping"


def _a(kind: Any) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOUaeiou' else 'a'} {kind.__name__}"


def _has_default(one: dataclasses.Field[Any]) -> bool:
    return not (one.default is one.default_factory is dataclasses.MISSING)


def _default(one: dataclasses.Field[Any]) -> Any:
    made = one.default_factory
    return one.default if made is dataclasses.MISSING else made()


def _nearest_key(kind: Any, name: str, path: str) -> str:
    """A hint: the section that has a key of that name, or the key that is meant."""
    hints = {f.name: _hints(kind)[f.name] for f in dataclasses.fields(kind) if f.init}
    sections = [
        f"`{section}.{name}`"
        for section, hint in hints.items()
        for choice in _choices(hint)
        if dataclasses.is_dataclass(choice) and name in _hints(typing.cast(Any, choice))
    ]
    if sections and not path:
        return f"did you mean {' or '.join(dict.fromkeys(sections))}?"
    return nearest(name, hints, f"{path}." if path else "")


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
        if tree.made is not None:
            return _a(tree.made)
        return "a list" if tree.is_list else "a mapping"
    if tree.value is None and not tree.text:
        return "nothing"
    if not isinstance(tree.value, (str, Number, types.NoneType)):
        return _a(type(tree.value))
    return repr(tree.text if len(tree.text) <= 60 else tree.text[:57] + "…")


def nearest(word: str, words: Iterable[str], prefix: str = "") -> str:
    """A hint: which of the words is meant, or all of them. prefix: stands before each."""
    words = list(words)
    known = {one.lower(): one for one in words}
    begun = [one for one in known if len(word) > 1 and one.startswith(word.lower())]
    near = difflib.get_close_matches(word.lower(), known, 1) or begun
    if near:
        return f"did you mean `{prefix}{known[near[0]]}`?"
    return f"known are {', '.join(prefix + one for one in words)}" if words else ""
