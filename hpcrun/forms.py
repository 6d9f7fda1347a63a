"""Which form a value of JSON has: what the data of facts are checked by (`hpcrun.kinds`).

Pure; standard library only (Python 3.8+).
"""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Iterable, List, Mapping

from hpcrun.layout import MOST_TASKS, RUN_ID

Check = Callable[[Any], bool]

NAME_LIMIT = 1024
"""Characters of a metric's or column's name."""

STEP_LIMIT = 2**63
"""A step is below it."""

PRINTED_BITS = 14_000
"""Python prints ints of up to 4,300 digits, unless it is told otherwise."""

DEPTH_LIMIT = 100
"""How deep lists and objects of a chart or of run.json may stand in each other."""

_TIME_LIMIT = 1e11
"""Unix seconds: the year 5138. Later is no time that could be printed."""

_MEASURE_LIMIT = 1e21

# -- of one value ---------------------------------------------------------------------------------


def is_anything(value: Any) -> bool:
    """Whether it is there."""
    return True


def is_text(value: Any) -> bool:
    """Whether it is a text."""
    return isinstance(value, str)


def is_digest(value: Any) -> bool:
    """Whether it is a SHA-256 in lower hex."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def is_truth(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def is_int(value: Any) -> bool:
    """Whether it is an int of 64 bits."""
    return type(value) is int and abs(value) < 2**63


def is_count(value: Any) -> bool:
    """Whether it is an int from 0 of 64 bits: one can be summed, printed and made a float."""
    return type(value) is int and 0 <= value < 2**63


def is_ordinal(value: Any) -> bool:
    """Whether it can number a rank, a submission or a restart."""
    return type(value) is int and 0 <= value < 2**31


def is_time(value: Any) -> bool:
    """Whether it is a moment: Unix seconds."""
    return type(value) in (int, float) and 0 <= value < _TIME_LIMIT


def is_measure(value: Any) -> bool:
    """Whether it is a number with which can be reckoned."""
    return type(value) in (int, float) and abs(value) < _MEASURE_LIMIT


def is_run_id(value: Any) -> bool:
    """Whether it is the id of a run, and leads nowhere else as a part of a path."""
    plain = isinstance(value, str) and value.isascii() and value.isprintable()
    return plain and "/" not in value and RUN_ID.match(value) is not None


def is_job_id(value: Any) -> bool:
    """Whether it is a scheduler's id of a job."""
    return is_text(value) or is_count(value)


def is_tasks(value: Any) -> bool:
    """Whether it says how many independent tasks a run has, as run.json does."""
    if not isinstance(value, dict) or not is_count(value.get("count")):
        return False
    return bool(0 < value["count"] <= MOST_TASKS)


def is_task(value: Any) -> bool:
    """Whether it says which task of which array a run is, as run.json does."""
    return (
        isinstance(value, dict)
        and all(map(is_count, (value.get("index"), value.get("element"))))
        and is_text(value.get("array"))
    )


def or_none(check: Check) -> Check:
    """Whether it is null, or of another form."""
    return lambda value: value is None or check(value)


def one_of(words: Iterable[object]) -> Check:
    """Whether it is one of these words."""
    known = frozenset(str(word) for word in words)
    return lambda value: isinstance(value, str) and value in known


def as_text(value: object) -> str:
    """Its str(); of an int with more digits than Python prints its hexadecimal form."""
    is_long = isinstance(value, int) and value.bit_length() > PRINTED_BITS
    return f"{value:#x}" if is_long else str(value)


# -- of several -----------------------------------------------------------------------------------


def array_of(check: Check) -> Check:
    """Whether it is an array whose elements are of a form."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def object_of(check: Check) -> Check:
    """Whether it is an object whose values are of a form."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def tuple_of(*checks: Check) -> Check:
    """Whether it is an array of so many elements, each of its own form."""
    return lambda value: (
        isinstance(value, list)
        and len(value) == len(checks)
        and all(check(value[place]) for place, check in enumerate(checks))
    )


# -- metrics --------------------------------------------------------------------------------------


def is_metric_name(value: Any) -> bool:
    """Whether it can be the name of a metric."""
    return type(value) is str and 0 < len(value) <= NAME_LIMIT


def is_step(value: Any) -> bool:
    """Whether it is a step."""
    return type(value) is int and 0 <= value < STEP_LIMIT


def is_metric(data: Mapping[str, Any]) -> bool:
    """Whether the value in a metric's data is of the form that they tell."""
    value, form = data["v"], data.get("y")
    if form is None:
        return _is_value(value)
    if not isinstance(form, str):
        return False
    if form == "image":
        return is_image(value) and is_text(data.get("sha256")) and is_count(data.get("size"))
    check = _FORMS.get(form)
    return check(value) if check is not None else is_chart(form, value)


_PLAIN = frozenset((float, int, str, bool, type(None)))
_HEX = re.compile(r"-?0x[0-9a-f]+\Z")
_NOT_FINITE = frozenset(("nan", "inf", "-inf"))


def _is_value(value: Any) -> bool:
    """Whether it is the form of one value (see `metrics.values`)."""
    if type(value) in _PLAIN:
        return True
    if type(value) is not dict or len(value) != 1:
        return False
    ((form, text),) = value.items()
    if not isinstance(text, str):
        return False
    return text in _NOT_FINITE if form == "f" else form == "i" and _HEX.match(text) is not None


_are_values = array_of(_is_value)
_are_columns = object_of(_are_values)


def _is_table(value: Any) -> bool:
    return _are_columns(value) and len({len(column) for column in value.values()}) <= 1


_FORMS = {"list": _are_values, "row": object_of(_is_value), "table": _is_table}


def is_chart(kind: str, value: Any) -> bool:
    """Whether it is the form of a chart of that kind (see `metrics.charts`)."""
    if type(value) is not dict or len(value) != 1 or not is_text(value.get("d")):
        return False
    try:
        document = json.loads(value["d"])
    except (ValueError, RecursionError):
        return False
    of_kind = isinstance(document, dict) and document.get("schema_type") == kind
    return of_kind and not is_deep(document)


def is_deep(document: Any) -> bool:
    """Whether lists and objects stand in each other deeper than DEPTH_LIMIT."""
    level: List[Any] = [document]
    for _ in range(DEPTH_LIMIT):
        inner: List[Any] = []
        for each in level:
            inner += each.values() if isinstance(each, dict) else each
        level = [each for each in inner if isinstance(each, (dict, list))]
    return bool(level)


_IMAGE = re.compile(r"images/(?!\.{1,2}\Z)[^/\0]+\Z")


def is_image(name: Any) -> bool:
    """Whether it is the name of an image among a run's files, and leads nowhere else."""
    return isinstance(name, str) and _IMAGE.match(name) is not None


_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}\Z")


def is_base64(value: Any) -> bool:
    """Whether it is bytes in base64."""
    return isinstance(value, str) and len(value) % 4 == 0 and _BASE64.match(value) is not None


# -- samples --------------------------------------------------------------------------------------

_are_measures = array_of(or_none(is_measure))


def is_sample(data: Mapping[str, Any]) -> bool:
    """Whether what a node's sample tells is numbers, and of GPUs a number each."""
    return all(
        _are_measures(value) if name.startswith("gpu_") else is_measure(value)
        for name, value in data.items()
        if name not in ("host", "of")
    )
