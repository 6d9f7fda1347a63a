"""What can be seen of a template without rendering it: its blocks, and what is wrong with it.

Pure. `Marks` tells of each line of a rendered script where in which template it stands.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from jinja2 import ChainableUndefined, ChoiceLoader, Environment, FunctionLoader, meta, nodes
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from hpcrun.errors import Problem
from hpcrun.quotes import Quotes
from hpcrun.templating import FAULTS, FILTERS, problem_of


class Block(NamedTuple):
    """A block of a template. about: the comment that it begins with."""

    name: str
    line: int
    about: str


class Place(NamedTuple):
    """A line of a template."""

    file: str
    line: int


# -- blocks ---------------------------------------------------------------------------------------


def blocks(text: str, environment: Environment) -> tuple[Block, ...]:
    """The blocks of a template, in their order. Jinja's TemplateSyntaxError."""
    found: list[Block] = []
    tokens = [token for token in environment.lex(text) if token[1] != "whitespace"]
    for number, (line, kind, word) in enumerate(tokens):
        if kind == "name" and word == "block" and tokens[number - 1][1] == "block_begin":
            about = _first_comment(tokens[number + 2 :])
            found.append(Block(tokens[number + 1][2], line, about))
    return tuple(found)


def _first_comment(tokens: list[tuple[int, str, str]]) -> str:
    """The comment that stands first after a block's tag."""
    for _, kind, text in tokens:
        if kind == "comment":
            return " ".join(text.split())
        if kind not in ("block_end", "comment_begin") and text.strip():
            return ""
    return ""


# -- faults ---------------------------------------------------------------------------------------


def faults(name: str, environment: Environment, known: Mapping[str, object]) -> tuple[Problem, ...]:
    """All that is wrong with a template, at its lines.

    known: what a template finds, with values as they may be, and names that others set.
    """
    assert environment.loader is not None
    try:
        text, file, _ = environment.loader.get_source(environment, name)
        tree = environment.parse(text, name, file)
        tokens = list(environment.lex(text, name, file))
    except FAULTS as error:
        return (problem_of(error),)
    try:
        own = _looked_up(tree, environment)
    except FAULTS as error:  # what only the compiler sees: a block that is there twice
        return (problem_of(error)._replace(file=file or ""),)
    told = [
        *_undefined(tree, own, known),
        *_lacking(tree, own, known),
        *_unknown(tree, environment),
        *_missing(tree, name, environment),
        *_left_out(tree, name, environment),
        *_quoted(tokens),
    ]
    return tuple(dict.fromkeys(problem._replace(file=file or "") for problem in told))


def lenient(environment: Environment, trees: Iterable[nodes.Template]) -> Environment:
    """One in which what these templates use and nobody knows is just empty, and no error."""
    assert environment.loader is not None
    loader = ChoiceLoader([environment.loader, FunctionLoader(lambda name: "")])
    found = environment.overlay(undefined=ChainableUndefined, loader=loader)
    used = {node.name for tree in trees for node in tree.find_all((nodes.Filter, nodes.Test))}
    found.filters = {**dict.fromkeys(used, lambda value, *rest: value), **environment.filters}
    found.tests = {**dict.fromkeys(used, lambda value, *rest: False), **environment.tests}
    return found


def _looked_up(tree: nodes.Template, environment: Environment) -> set[str]:
    """The names that a template takes from outside."""
    tree.set_environment(lenient(environment, (tree,)))
    return meta.find_undeclared_variables(tree)


def names_set(tree: nodes.Template) -> set[str]:
    """The names that a template gives to values, macros and templates of its own."""
    names = {node.name for node in tree.find_all(nodes.Name) if node.ctx == "store"}
    names |= {node.name for node in tree.find_all(nodes.Macro)}
    names |= {node.target for node in tree.find_all(nodes.Import)}
    for node in tree.find_all(nodes.FromImport):
        names |= {word if isinstance(word, str) else word[1] for word in node.names}
    return names


def _undefined(
    tree: nodes.Template, own: set[str], known: Mapping[str, object]
) -> Iterator[Problem]:
    """Names that nobody gives a value; not those of which the template asks whether they have."""
    asked = {
        node.node.name
        for node in tree.find_all((nodes.Test, nodes.Filter))
        if node.name in ("defined", "undefined", "default") and isinstance(node.node, nodes.Name)
    }
    for node in tree.find_all(nodes.Name):
        if node.ctx == "load" and node.name in own - asked - set(known):
            message = f"{node.name!r} is undefined"
            yield Problem(message, _nearest(node.name, known), line=node.lineno)


def _lacking(tree: nodes.Template, own: set[str], known: Mapping[str, object]) -> Iterator[Problem]:
    """Parts that a known value has not, as far as its kind says which it has."""
    for node in tree.find_all(nodes.Getattr):
        root, *path = _path(node)
        value = known.get(root) if root in own else None
        for part in path[:-1]:
            value = getattr(value, part, None)
        parts = parts_of(value)
        if path and parts and not hasattr(value, path[-1]):
            message = f"{'.'.join((root, *path[:-1]))} has no attribute {path[-1]!r}"
            yield Problem(message, _nearest(path[-1], parts), line=node.lineno)


def _path(node: nodes.Node) -> tuple[str, ...]:
    """("plan", "job", "nodes") of `plan.job.nodes`; ("",) of anything else."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    if isinstance(node, nodes.Getattr):
        return (*_path(node.node), node.attr)
    return ("",)


def parts_of(value: object) -> dict[str, str]:
    """The parts of a value of ours that a template may name, with their types; else none."""
    kind = type(value)
    if not dataclasses.is_dataclass(kind) and not hasattr(kind, "_fields"):
        return {}
    found = dict(getattr(kind, "__annotations__", {}))
    for name, member in vars(kind).items():
        if isinstance(member, property) and not name.startswith("_") and member.fget:
            found[name] = member.fget.__annotations__.get("return", "")
    return {name: getattr(told, "__forward_arg__", str(told)) for name, told in found.items()}


def _unknown(tree: nodes.Template, environment: Environment) -> Iterator[Problem]:
    for node in tree.find_all(nodes.Filter):
        if node.name not in environment.filters:
            hint = f"filters are {', '.join((*FILTERS, 'safe', 'shell'))}"
            yield Problem(f"No filter named {node.name!r}.", hint, line=node.lineno)
    for test in tree.find_all(nodes.Test):
        if test.name not in environment.tests:
            yield Problem(f"No test named {test.name!r}.", line=test.lineno)


def _missing(tree: nodes.Template, name: str, environment: Environment) -> Iterator[Problem]:
    """Templates that it names, and that are not there."""
    naming = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)
    for node in tree.find_all(naming):
        other = getattr(node, "template", None)
        if not isinstance(other, nodes.Const):
            continue
        try:
            environment.get_template(environment.join_path(other.value, name))
        except FAULTS as error:
            problem = problem_of(error)
            if not problem.file:  # what is wrong inside of that one is told there
                yield problem._replace(line=node.lineno)


def _left_out(tree: nodes.Template, name: str, environment: Environment) -> Iterator[Problem]:
    """What a template that extends another one says in vain: Jinja heeds only blocks that the other
    one has."""
    extended = next(tree.find_all(nodes.Extends), None)
    known = _blocks_of(extended, name, environment) if extended is not None else None
    if known is None:
        return
    for node in _outside(tree.body):
        if isinstance(node, nodes.Block):
            if node.name not in known:
                message = f"no template that it extends has a block {node.name!r}"
                yield Problem(message, _nearest(node.name, known), line=node.lineno)
            continue
        for piece in node.nodes:
            text = piece.data if isinstance(piece, nodes.TemplateData) else "value"
            if text.strip():
                line = piece.lineno + text[: len(text) - len(text.lstrip())].count("\n")
                message = "what stands outside of blocks is left out of the script"
                yield Problem(message, "move it into a block", line=line)


def _outside(body: Iterable[nodes.Node]) -> Iterator[nodes.Block | nodes.Output]:
    """Blocks that stand in no other block, and text that stands in none."""
    for node in body:
        if isinstance(node, nodes.Block | nodes.Output):
            yield node
        elif isinstance(node, nodes.If | nodes.For | nodes.With | nodes.Scope):
            yield from _outside(node.iter_child_nodes())


def _blocks_of(extended: nodes.Extends, name: str, environment: Environment) -> set[str] | None:
    """The blocks of the templates that one extends; None: that cannot be told."""
    assert environment.loader is not None
    found: set[str] = set()
    known = {name}
    while True:
        if not isinstance(extended.template, nodes.Const):
            return None
        try:
            name = environment.join_path(extended.template.value, name)
            text, _, _ = environment.loader.get_source(environment, name)
            tree = environment.parse(text, name)
        except FAULTS:
            return None
        found |= {block.name for block in tree.find_all(nodes.Block)}
        above = next(tree.find_all(nodes.Extends), None)
        if above is None:
            return found
        if name in known:
            return None
        known.add(name)
        extended = above


def _quoted(tokens: list[tuple[int, str, str]]) -> Iterator[Problem]:
    """Values inside of quotes of the template's own: they are quoted words already."""
    quotes, begin = Quotes(), 0
    expression: list[str] = []
    for number, (line, kind, word) in enumerate(tokens):
        if kind == "data":
            quotes.read(word)
        elif kind == "variable_begin":
            expression, begin = [], line
        elif kind == "variable_end":
            is_script = expression[-2:] == ["|", "safe"] or expression[:1] == ["super"]
            if quotes.are_open and not is_script:
                shown = "".join(expression)
                hint = "leave out the quotes around it: each value is one quoted word"
                yield Problem(f"{{{{ {shown} }}}} stands inside of quotes", hint, line=begin)
            quotes.word()
        elif kind == "name" and word in ("block", "endblock"):
            if any(before[1] == "block_begin" for before in tokens[max(number - 2, 0) : number]):
                quotes = Quotes()
        elif kind != "whitespace":
            expression.append(word)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {near[0]!r}?" if near else ""


# -- where a script's lines come from -------------------------------------------------------------

_MARK = re.compile("\x01([^\x02]*)\x02([0-9]+)\x03")


class Marks(Extension):
    """Marks each line of a template's text with its place."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Jinja's tokens, those of text marked."""
        file = stream.filename or stream.name or ""
        for token in stream:
            yield self._marked(token, file) if token.type == "data" else token

    def _marked(self, token: Token, file: str) -> Token:
        lines = str(token.value).split("\n")
        marked = [f"\x01{file}\x02{token.lineno + n}\x03{line}" for n, line in enumerate(lines)]
        if not lines[-1]:
            marked[-1] = ""  # what comes next has a mark of its own
        return Token(token.lineno, "data", "\n".join(marked))


def unmarked(marked: str) -> tuple[str, tuple[Place | None, ...]]:
    """(text, the place of each line) of what was rendered with `Marks`; None if nobody knows."""
    found = (_MARK.search(line) for line in marked.split("\n"))
    places = tuple(Place(mark[1], int(mark[2])) if mark else None for mark in found)
    return _MARK.sub("", marked), places
