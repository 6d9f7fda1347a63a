"""What can be logged, as JSON values, and back. Pure; standard library only (Python 3.8+).

    None, bool, str      themselves
    int                  itself; beyond 64 bits {"i": "0x…"}
    float                itself; {"f": "nan"}, {"f": "inf"}, {"f": "-inf"}
    one-element arrays   the value in them, by .item() or .numpy()
    anything else        its repr, a text
    a document           {"d": "<its JSON>"} (see `charts`)

An object stands nowhere else in a value, so the text "nan" stays a text. Neither NumPy nor any
framework is imported.
"""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, Mapping, Optional, Union

from hpcrun.forms import NAME_LIMIT, STEP_LIMIT

Document = Dict[str, Any]
"""A chart: {schema_type, schema_version, data}."""

Value = Union[None, bool, int, float, str, Document]

_UNORDERED = (set, frozenset)
_SEVERAL = (list, tuple, dict, range, *_UNORDERED)


def scalar(value: object) -> Any:
    """The JSON form of one value. TypeError if it holds several."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"f": repr(float(value))}
    if isinstance(value, int):
        return int(value) if -STEP_LIMIT <= value < STEP_LIMIT else {"i": hex(value)}
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, _SEVERAL) or hasattr(value, "__next__"):
        raise _several(value)
    return _of_object(value)


def several(values: Any) -> List[Any]:
    """The JSON forms of the values in a list, array, range or generator. TypeError: a set's too."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    elif hasattr(values, "numpy"):
        values = values.numpy().tolist()
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        kind = type(values).__name__
        raise TypeError(f"a list of values is needed, not a {kind}; log() takes one value")
    if isinstance(values, _UNORDERED):
        raise TypeError(
            f"the values of a {type(values).__name__} have no order; sorted() gives one"
        )
    return [scalar(value) for value in values]


def row(columns: Mapping[str, object]) -> Dict[str, Any]:
    """The JSON form of one row. TypeError, ValueError."""
    return {checked_name(name): scalar(value) for name, value in columns.items()}


def table(columns: Mapping[str, Any]) -> Dict[str, List[Any]]:
    """The JSON form of columns of equal length; one value is a column of one. ValueError."""
    if not isinstance(columns, Mapping):
        raise TypeError(f"a table is a dict of columns, not a {type(columns).__name__}")
    result = {checked_name(name): _column(column) for name, column in columns.items()}
    lengths = {name: len(column) for name, column in result.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns of a table must be of equal length: {lengths}")
    return result


def checked_name(name: object) -> str:
    """A name of 1 to 1,024 characters, any characters. TypeError, ValueError."""
    if not isinstance(name, str):
        raise TypeError(f"a name must be a str, not {repr(name)[:40]}")
    if not 0 < len(name) <= NAME_LIMIT:
        raise ValueError(
            f"a name must have 1 to {NAME_LIMIT} characters; {name[:40]!r} has {len(name)}"
        )
    return name


def checked_step(step: Any) -> Optional[int]:
    """A step, a whole number from 0 below 2**63, or None. ValueError.

    A float or a number of NumPy or torch is one if it is whole; a bool is none.
    """
    if step is None:
        return None
    number = step if type(step) is int else _whole(step)
    if number is None or not 0 <= number < STEP_LIMIT:
        large = isinstance(step, int) and abs(step) > STEP_LIMIT
        told = f"one of {step.bit_length()} bits" if large else repr(step)[:40]
        raise ValueError(f"a step must be a whole number from 0 to 2**63 - 1, not {told}")
    return number


def _whole(value: object) -> Optional[int]:
    try:
        number = scalar(value)
    except TypeError:
        return None
    if isinstance(number, float) and number.is_integer():
        return int(number)
    return number if type(number) is int else None


def decoded(value: Any) -> Value:
    """The value of a JSON form."""
    if isinstance(value, dict):
        if "d" in value:
            document: Document = json.loads(value["d"])
            return document
        return int(value["i"], 16) if "i" in value else float(value["f"])
    plain: Value = value
    return plain


def _of_object(value: Any) -> Any:
    if hasattr(value, "item"):
        try:
            plain = value.item()
        except (ValueError, RuntimeError) as error:
            raise _several(value) from error
        except TypeError:
            return repr(value)
        known = plain is None or isinstance(plain, (bool, int, float, str))
        return scalar(plain) if known else repr(plain)
    if hasattr(value, "numpy"):
        return _of_object(value.numpy())
    return repr(value)


def _column(column: Any) -> List[Any]:
    if isinstance(column, (list, tuple, range, *_UNORDERED)):
        return several(column)
    return several(column) if _is_array(column) else [scalar(column)]


def _is_array(value: Any) -> bool:
    """Whether it is an array of at least one dimension, or a generator."""
    return bool(getattr(value, "shape", ())) or hasattr(value, "__next__")


def _several(value: object) -> TypeError:
    return TypeError(
        f"log() takes one value, and this {type(value).__name__} holds several (or none): "
        "use log_list() for a list, log_row() or log_table() for a table"
    )
