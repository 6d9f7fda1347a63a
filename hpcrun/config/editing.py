"""Changes values in a YAML text and leaves everything else as it stands, comments too. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from hpcrun.errors import ConfigError
from hpcrun.reading import plain_scalar, read_plain

_PLAIN = re.compile(r"(?:[\w/.]|-[\w-])(?:[\w/.,=@%+ -]*[\w/.,=@%+-])?", re.ASCII)


class Rules(NamedTuple):
    """same: the name behind a key's spellings. free: names of mappings whose keys are data."""

    same: Callable[[str], str]
    free: Collection[str]


def edited(text: str, wanted: Mapping[str, Any], rules: Rules, file: str = "") -> str:
    """The text with the wanted values in it.

    wanted: dicts, lists and scalars; None empties a key that is there. A mapping is changed key by
    key, one with free keys becomes as wanted. Where single lines cannot be changed (aliases, flow
    style) the whole is written anew, without comments. Raises ConfigError for what is no YAML.
    """
    held = read_plain(text, file)
    goal = _merged(held, wanted, rules)
    lines = text.split("\n")
    try:
        for edit in sorted(_edits(text, wanted, rules), reverse=True):
            lines[edit.first : edit.behind] = edit.lines
        changed = "\n".join(lines)
        if read_plain(changed, file) == goal:
            return changed
    except (ConfigError, IndexError, ValueError):
        pass  # an alias, or a line break that only YAML takes for one
    return "\n".join(_block(goal, "")) + "\n"


def _merged(held: Any, wanted: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    merged = dict(held) if isinstance(held, Mapping) else {}
    spelled = {rules.same(name): name for name in merged}
    for name, value in wanted.items():
        key = spelled.get(rules.same(name))
        if isinstance(value, Mapping) and name not in rules.free:
            inner = _merged(merged.get(key or name), value, rules)
            if key is not None or inner:
                merged[key or name] = inner
        elif value is not None or (key is not None and not _is_same(merged[key], None)):
            merged[key or name] = value
    return merged


def _is_same(held: Any, value: Any) -> bool:
    """Whether a value says so already. No items are as good as no list; True is not 1."""
    return repr(held) == repr(value) or (value is None and held in ([], {}))


# -- lines --------------------------------------------------------------------------------------


class _Edit(NamedTuple):
    """The lines that come in place of those from first until behind."""

    first: int
    behind: int
    lines: list[str]


def _edits(text: str, wanted: Mapping[str, Any], rules: Rules) -> Iterator[_Edit]:
    from ruamel.yaml import YAML

    node = YAML(typ="safe", pure=True).compose(text)
    if node is None:
        end = len(text.rstrip("\n").split("\n")) if text.strip("\n") else 0
        yield _Edit(end, end, _block(_merged({}, wanted, rules), ""))
    elif node.id == "mapping":
        yield from _mapping_edits(node, wanted, rules, text.split("\n"))


def _mapping_edits(
    node: Any, wanted: Mapping[str, Any], rules: Rules, lines: list[str]
) -> Iterator[_Edit]:
    held = {rules.same(str(key.value)): (key, value) for key, value in node.value}
    new: dict[str, Any] = {}
    for name, value in wanted.items():
        key, before = held.get(rules.same(name), (None, None))
        if key is None:
            new |= _merged({}, {name: value}, rules)
        elif _is_same(_words(before), value):
            pass
        elif not isinstance(value, Mapping):
            yield _replaced(key, before, value, lines)
        elif not _is_block(before):
            whole = value if name in rules.free else _merged(_words(before), value, rules)
            yield _replaced(key, before, whole, lines)
        elif name not in rules.free:
            yield from _mapping_edits(before, value, rules, lines)
        elif value.keys() & _words(before).keys():
            yield from _free_edits(before, value, lines)
        else:
            yield _replaced(key, before, value, lines)
    yield from _added(node, new)


def _free_edits(node: Any, wanted: Mapping[str, Any], lines: list[str]) -> Iterator[_Edit]:
    """Changes a mapping of free keys to the wanted one, of which some keys are there already."""
    for key, before in node.value:
        if key.value not in wanted:
            yield _Edit(key.start_mark.line, _last_line(before, key) + 1, [])
        elif not _is_same(_words(before), wanted[key.value]):
            yield _replaced(key, before, wanted[key.value], lines)
    held = {key.value for key, _ in node.value}
    yield from _added(node, {name: value for name, value in wanted.items() if name not in held})


def _added(node: Any, new: Mapping[str, Any]) -> Iterator[_Edit]:
    if new:
        end = _last_line(node) + 1
        yield _Edit(end, end, _block(new, " " * node.start_mark.column))


def _is_block(node: Any) -> bool:
    return node.id == "mapping" and not node.flow_style and bool(node.value)


def _replaced(key: Any, before: Any, value: Any, lines: list[str]) -> _Edit:
    first, last = key.start_mark.line, _last_line(before, key)
    line = lines[first]
    if before.id == "scalar" and last == first and not _is_compound(value):
        start, end = before.start_mark.column, before.end_mark.column
        if _is_empty(before):
            start = end = line.index(":", key.end_mark.column) + 1
        said = "" if value is None else _scalar(value)
        gap = " " if said and line[start - 1] == ":" else ""
        return _Edit(first, first + 1, [(line[:start] + gap + said + line[end:]).rstrip()])
    indent = " " * key.start_mark.column
    return _Edit(first, last + 1, _block({str(key.value): value}, indent))


def _is_compound(value: Any) -> bool:
    return isinstance(value, (Mapping, list))


def _is_empty(node: Any) -> bool:
    """Whether nothing is written: the parser then says that it stands where the next key does."""
    return node.id == "scalar" and node.value == "" and node.style is None


def _last_line(node: Any, key: Any = None) -> int:
    """The last line of a value, without the comments under it. key: what stands before it."""
    if key is not None and _is_empty(node):
        return int(key.end_mark.line)
    if node.id != "scalar" and node.value and not node.flow_style:
        last = node.value[-1]
        return _last_line(last[1], last[0]) if isinstance(last, tuple) else _last_line(last)
    end = node.end_mark
    return int(end.line - 1 if end.column == 0 and end.line > node.start_mark.line else end.line)


def _words(node: Any) -> Any:
    """A node as `wanted` would have it, to see whether it says the same already."""
    if node.id == "mapping":
        return {key.value: _words(value) for key, value in node.value}
    if node.id == "sequence":
        return [_words(item) for item in node.value]
    return node.value if str(node.tag).endswith(":str") else plain_scalar(node.value)


def _block(value: Mapping[str, Any], indent: str) -> list[str]:
    """A mapping as lines of block style."""
    lines = []
    for name, item in value.items():
        key = f"{indent}{_scalar(name)}:"
        if isinstance(item, Mapping) and item:
            lines += [key, *_block(item, f"{indent}  ")]
        elif isinstance(item, list) and item and not any(_is_compound(one) for one in item):
            lines += [key, *(f"{indent}- {_scalar(one)}" for one in item)]
        elif item is None:
            lines.append(key)
        else:
            lines.append(f"{key} {_flow(item) if _is_compound(item) else _scalar(item)}")
    return lines


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_quoted(n)}: {_flow(v)}' for n, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    return _quoted(value) if isinstance(value, str) else _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and isinstance(plain_scalar(value), str)
        return value if plain and value not in ("---", "...") else _quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).replace("inf", ".inf").replace("nan", ".nan")


def _quoted(text: str) -> str:
    """In double quotes, as JSON and YAML have them in common."""
    return json.dumps(text, ensure_ascii=not text.isprintable())
