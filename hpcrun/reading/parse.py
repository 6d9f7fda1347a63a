"""YAML to tree: all that is wrong with a text as YAML, each with its line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpcrun.errors import Problem
from hpcrun.reading.tree import DEPTH, VALUES, Branch, Endless, Leaf, Origin, Tree, items, shown


def parsed(text: str, file: str, problems: list[Problem]) -> Tree | None:
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
    except Endless as endless:
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


def plain_scalar(text: str) -> Any:
    """What YAML makes of a scalar without quotes: None, bool, int, float or str."""
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import ScalarNode

    tag = YAML(typ="safe", pure=True).resolver.resolve(ScalarNode, text, (True, False))
    return _plain_value(str(tag), text)


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
            raise Endless(f"nested more than {DEPTH} levels deep", line)
        if self.left < 0:
            raise Endless(f"more than {VALUES} values", line)
        if (tag := str(node.tag)) not in _TAGS[node.id]:
            self.tell(f"there is no tag {tag}", line, "write the value without it")
        if isinstance(node.value, str):
            return _leaf(node, Origin(self.file, line))
        if node.id == "mapping":
            return Branch(self._pairs(node, depth), Origin(self.file, line))
        listed = [("", self.tree(item, depth + 1)) for item in node.value]
        return Branch(listed, Origin(self.file, line), True)

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
        for source in items(tree) if isinstance(tree, Branch) and tree.is_list else [tree]:
            if isinstance(source, Branch) and not source.is_list:
                yield from source.items
            else:
                self.tell(f"`<<` takes mappings, not {shown(source)}", line)

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
