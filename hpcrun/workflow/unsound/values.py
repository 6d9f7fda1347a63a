"""What no value of any field may be: a number below nothing, a text that holds none."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

from hpcrun.config import parse_memory, parse_time
from hpcrun.reading import Finding
from hpcrun.site import SiteConfig
from hpcrun.variables import NAME, is_heeded, named_in, site_refusal

_MAY_BE_EMPTY = ("env", "single_node_env", "multi_node_env", "gpu_env", "environment_variables")
"""Mappings whose values are those of variables."""

_MAY_HAVE_LINES = ("setup", "remarks", "command", "error_hints", "forbid", "discouraged", "hints")
"""Fields of words for people or for a shell."""


def values(site: SiteConfig) -> Iterator[Finding]:
    """What is wrong with single values, wherever they stand."""
    yield from _in(site, "")


def _in(value: object, key: str) -> Iterator[Finding]:
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            given = getattr(value, field.name)
            # What a target wants otherwise is looked at as the site that it makes.
            if given != field.default and field.name != "override":
                yield from _in(given, f"{key}.{field.name}" if key else field.name)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            inner = f"{key}.{name}"
            if not name.strip() or not name.isprintable():
                yield Finding(inner, f"`{key}` has the name {name!r}", "write one")
            if item != "" or key.rpartition(".")[2] not in _MAY_BE_EMPTY:
                yield from _in(item, inner)
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _in(item, f"{key}[{number}]")
    elif isinstance(value, str):
        yield from _text(value, key)
    elif isinstance(value, int | float) and not 0 <= value < math.inf:
        yield Finding(key, f"`{key}` is {value}, and cannot be below 0", "leave it out")


def _text(text: str, key: str) -> Iterator[Finding]:
    if not text.strip():
        yield Finding(key, f"`{key}` is empty", "leave it out")
    elif not text.isprintable() and not any(part in key for part in _MAY_HAVE_LINES):
        yield Finding(key, f"`{key}` holds a line break or another control: {text!r}")


def at_least(counts: Mapping[str, tuple[float | None, float]]) -> Iterator[Finding]:
    """The numbers, each by its key with the least that it may be, that are below that."""
    for key, (count, least) in counts.items():
        if count is not None and count < least:
            yield Finding(key, f"{count} is too small for `{key}`", f"at least {least}")


def times(texts: Mapping[str, str | None]) -> Iterator[Finding]:
    """Those that are no duration."""
    yield from _unreadable(texts, parse_time)


def sizes(texts: Mapping[str, str | None]) -> Iterator[Finding]:
    """Those that are no amount of memory."""
    yield from _unreadable(texts, parse_memory)


def is_more(one: str | None, other: str | None, parse: Callable[[str], object]) -> bool:
    """Whether a time or a size is above another; what is none is told elsewhere."""
    try:
        return None not in (one, other) and parse(str(one)) > parse(str(other))  # type: ignore[operator]
    except ValueError:
        return False


def names(key: str, variables: Mapping[str, object] | tuple[str, ...]) -> Iterator[Finding]:
    """What are no names of variables."""
    for number, name in enumerate(variables):
        if not NAME.match(name):
            inner = f"{key}[{number}]" if isinstance(variables, tuple) else f"{key}.{name}"
            yield Finding(inner, f"{name!r} is no name for a variable")


def settable(key: str, variables: Mapping[str, str]) -> Iterator[Finding]:
    """The variables that a site cannot set, or not to that."""
    for name, value in variables.items():
        problem = site_refusal(name, value)
        if problem is not None:
            yield Finding(f"{key}.{name}", problem.message, problem.hint)


def heeded(key: str, text: str | None) -> Iterator[Finding]:
    """The variables in a text that are not those of the shell that submits."""
    for name in named_in(text or ""):
        if not is_heeded(name):
            told = f"${name} is none of the variables that are heeded"
            hint = "HOME, USER, or SCRATCH, PROJECT or ACCOUNT is in their names"
            yield Finding(key, told, hint)


def one_word(key: str, text: str | None) -> Iterator[Finding]:
    """A text that is no single word."""
    if text is not None and len(text.split()) > 1:
        yield Finding(key, f"{text!r} is several words", "it must be one")


def _unreadable(
    texts: Mapping[str, str | None], parse: Callable[[str], object]
) -> Iterator[Finding]:
    for key, text in texts.items():
        try:
            if text is not None:
                parse(text)
        except ValueError as error:
            yield Finding(key, str(error))
