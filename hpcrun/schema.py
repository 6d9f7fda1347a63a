"""The JSON Schema (2020-12) of a file that `reading` reads, for editors and checkers.

A dataclass is an object without further keys; the text under a field is its description.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Union

_SCALARS: Mapping[Any, Any] = {
    # A scalar counts as it is written wherever text is wanted.
    str: ["string", "number", "boolean"],
    int: "integer",
    float: "number",
    bool: "boolean",
}


def json_schema(kind: type) -> dict[str, Any]:
    """The schema of a dataclass."""
    definitions: dict[str, Any] = {}
    root = _schema(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.__name__,
        **root,
        "$defs": definitions,
    }


def field_texts(kind: type) -> Mapping[str, str]:
    """The text under each field of a dataclass, as it stands in the code."""
    return dict(_texts(kind))


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind is Any:
        return {}
    if kind is types.NoneType:
        return {"type": "null"}
    if kind in _SCALARS:
        return {"type": _SCALARS[kind]}
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(arg, definitions) for arg in args]}
    if origin is Literal:
        # Case does not matter to `reading`; editors offer what is listed.
        return {"enum": list(dict.fromkeys((*args, *(word.lower() for word in args))))}
    if origin in (tuple, list):
        return {"type": "array", "items": _schema(args[0], definitions)}
    if origin in (Mapping, dict):
        return {"type": "object", "additionalProperties": _schema(args[1], definitions)}
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}
        definitions[kind.__name__] = _object(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _object(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    texts = _texts(kind)
    properties: dict[str, Any] = {}
    required = []
    own = [field.name for field in dataclasses.fields(kind)]
    if isinstance(name := getattr(kind, "kind", None), str) and "kind" not in own:
        properties["kind"] = {"const": name, "description": "Which kind it is."}
        required.append("kind")
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if field.default is field.default_factory is dataclasses.MISSING:
            required.append(field.name)
        elif hint is not Any:
            hint = hint | None  # null means not given where there is a default
        properties[field.name] = {
            **_schema(hint, definitions),
            **({"description": texts[field.name]} if field.name in texts else {}),
        }
    return {
        "type": "object",
        "description": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


@cache
def _texts(kind: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    texts: dict[str, str] = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            texts[field.target.id] = " ".join(after.value.value.split())
    return texts
