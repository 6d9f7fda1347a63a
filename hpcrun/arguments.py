"""Arguments of public calls, checked by their annotations. Standard library only (Python 3.8+).

What a caller got wrong is told in one sentence of ours at the call, before anything is done: not by
the first line deep inside that cannot use it. A call with too many or too few arguments raises
Python's own TypeError.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Dict, Type, TypeVar, Union

from hpcrun.errors import ConfigError, Problem

if TYPE_CHECKING:
    AnyPath = Union[str, os.PathLike[str]]
else:
    AnyPath = Union[str, os.PathLike]  # Python 3.8 knows no os.PathLike[str]

Kind = TypeVar("Kind", bound=Type[Any])

_UNIONS = (Union, getattr(types, "UnionType", Union))
_WORDS: Mapping[Any, str] = {
    str: "a text",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    type(None): "None",
}


def checked(kind: Kind) -> Kind:
    """Makes the public methods of a class, and its constructor, check their arguments.

    Those that a subclass overrides are checked where that is decorated too.
    """
    for name, member in list(vars(kind).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, (staticmethod, classmethod)):
            bound = int(isinstance(member, classmethod))
            setattr(kind, name, type(member)(_checking(member.__func__, bound)))
        elif isinstance(member, property) and member.fset is not None:
            setattr(kind, name, member.setter(_checking(member.fset, 1)))
        elif inspect.isfunction(member):
            setattr(kind, name, _checking(member, 1))
    return kind


def is_path(value: object) -> bool:
    """Whether it can be the path of a file: no part has more than 255 bytes."""
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or "\0" in path:
        return False
    return all(len(part.encode("utf-8", "surrogatepass")) < 256 for part in path.split("/"))


def _checking(function: Callable[..., Any], bound: int) -> Callable[..., Any]:
    """The function, which checks its arguments. bound: how many of them Python itself gives."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs or len(args) > bound:
            _check(function, args, kwargs)
        return function(*args, **kwargs)

    return call


def _check(function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    kinds = _kinds(function)
    try:
        given = _signature(function).bind(*args, **kwargs).arguments
    except TypeError:
        return  # the call itself says so in Python's words
    for name, value in given.items():
        kind = kinds.get(name, Any)
        if not _fits(value, kind):
            what = _called(function, name, args)
            raise ConfigError(Problem(f"{what} must be {_words(kind)}, not {_shown(value)}"))


def _called(function: Callable[..., Any], name: str, args: Any) -> str:
    """What a parameter is called, for a sentence."""
    owner = type(args[0]) if args else None
    if isinstance(getattr(owner, function.__name__, None), property):
        return f"`{function.__name__}`"
    made = function.__name__ == "__init__"
    return f"`{name}` of {owner.__name__ if made and owner else function.__name__}()"


_signature = functools.lru_cache(maxsize=None)(inspect.signature)


@functools.lru_cache(maxsize=None)
def _kinds(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The types of its parameters; names that only a type checker imports are the API's."""
    names, told = function.__globals__, function.__annotations__
    return {name: eval(text, names, _Public()) for name, text in told.items() if name != "return"}


class _Public(Dict[str, Any]):
    """The names of `hpcrun`, loaded when they are asked for."""

    def __missing__(self, name: str) -> Any:
        try:
            return getattr(sys.modules["hpcrun"], name)
        except AttributeError:
            raise KeyError(name) from None


def _fits(value: object, kind: Any) -> bool:
    origin = typing.get_origin(kind) or kind
    if origin in (Any, object):
        return True
    if origin in _UNIONS:
        kinds = typing.get_args(kind)
        if isinstance(value, str) and any(map(_is_path_kind, kinds)):
            return is_path(value)
        return any(_fits(value, one) for one in kinds)
    if origin is Sequence:
        (inner,) = typing.get_args(kind)
        is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        return is_list and all(_fits(each, inner) for each in typing.cast(Any, value))
    if origin is Mapping:
        names, inner = typing.get_args(kind)
        return isinstance(value, Mapping) and all(
            _fits(name, names) and _fits(each, inner) for name, each in value.items()
        )
    if origin is bool:
        return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")  # NumPy's
    if origin is int:
        return hasattr(value, "__index__") and not _fits(value, bool) and not _is_array(value)
    if origin is float:
        return hasattr(value, "__float__") and not _fits(value, bool) and _is_number(value)
    return is_path(value) if _is_path_kind(origin) else isinstance(value, origin)


def _is_number(value: Any) -> bool:
    """Whether it is one number, and no int beyond all floats."""
    try:
        float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return False
    return not _is_array(value)


def _is_path_kind(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, os.PathLike)


def _is_array(value: object) -> bool:
    return bool(getattr(value, "shape", ()))


def _words(kind: Any) -> str:
    """What is wanted, for a sentence."""
    origin = typing.get_origin(kind) or kind
    if origin in _UNIONS:
        kinds = typing.get_args(kind)
        of_path = any(map(_is_path_kind, kinds))
        told = [_words(one) for one in kinds if not (of_path and one is str)]
        return " or ".join(dict.fromkeys(told))
    if origin is Sequence:
        (inner,) = typing.get_args(kind)
        return "a list" if inner is Any else f"a list of {_words(inner).partition(' ')[2]}s"
    if origin is Mapping:
        return "a mapping of names to values"
    if _is_path_kind(origin):
        return "a path"
    return _WORDS.get(origin) or _a(getattr(origin, "__name__", str(origin)))


def _shown(value: object) -> str:
    """What was given, for a sentence."""
    if value is None or isinstance(value, (str, float, bool)):
        return repr(value)[:60]
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 64 else f"an int of {value.bit_length()} bits"
    if isinstance(value, (list, tuple, dict)) and value:
        return f"{_a(type(value).__name__)} with {_shown(next(iter(value)))}"
    return _a(type(value).__name__)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
