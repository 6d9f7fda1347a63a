"""What a reader of metric files gives: points. Pure; standard library only (Python 3.8+)."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from hpcrun.forms import STEP_LIMIT
from hpcrun.metrics.values import checked_name, scalar

STEPS = ("step", "global_step", "_step", "iteration", "epoch")
"""The columns that can be a row's step; the first that holds a whole number is."""

TIMES = ("wall_time", "timestamp", "_timestamp")
"""The columns that can be a row's time: Unix seconds between 2001 and 5138."""


class Point(NamedTuple):
    """One value of a metric.

    value: its JSON form (see `metrics.values`). time: Unix seconds, if the file tells it.
    end: where its record ends, in the bytes that were read.
    """

    name: str
    value: Any
    step: Optional[int]
    time: Optional[float]
    end: int


class Reading(NamedTuple):
    """What stands in a piece of a file.

    consumed: the bytes up to the end of the last whole record. skipped: how many things of which
    kind are no points. wants: the bytes that the first record needs, where it is not whole.
    problem: why nothing can be read behind `consumed`; it may be that the rest is still on its way.
    """

    points: List[Point]
    consumed: int
    skipped: Dict[str, int]
    wants: int = 0
    problem: str = ""


def points_of(cells: Mapping[str, Any], step_name: str, end: int) -> Iterator[Point]:
    """The points of one row. cells: its numbers. step_name: the column of its step, if told."""
    column, step = _step(cells, (step_name,) if step_name else STEPS)
    time_column, time = _time(cells)
    for name, value in cells.items():
        if name not in (column, time_column) and _is_name(name):
            yield Point(name, scalar(value), step, time, end)


def flattened(value: Mapping[str, Any], skipped: Dict[str, int]) -> Dict[str, Any]:
    """The numbers in an object of JSON; those of objects in it as `outer/inner`. No texts."""
    found: Dict[str, Any] = {}
    waiting = list(value.items())[::-1]
    while waiting:
        name, inner = waiting.pop()
        if isinstance(inner, dict):
            waiting += [(f"{name}/{key}", item) for key, item in inner.items()][::-1]
        elif isinstance(inner, list):
            count(skipped, "list")
        elif isinstance(inner, (bool, int, float)):
            found[name] = inner
    return found


def count(skipped: Dict[str, int], kind: str) -> None:
    """One more of a kind."""
    skipped[kind] = skipped.get(kind, 0) + 1


def _step(cells: Mapping[str, Any], names: Tuple[str, ...]) -> Tuple[str, Optional[int]]:
    for name in names:
        value = cells.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is int and 0 <= value < STEP_LIMIT:
            return name, value
    return "", None


def _time(cells: Mapping[str, Any]) -> Tuple[str, Optional[float]]:
    for name in TIMES:
        value = cells.get(name)
        if isinstance(value, (int, float)) and 1e9 <= value < 1e11:
            return name, float(value)
    return "", None


def _is_name(name: str) -> bool:
    try:
        checked_name(name)
    except ValueError:
        return False
    return True
