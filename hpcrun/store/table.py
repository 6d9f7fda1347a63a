"""The columns of a sealed file while they are filled, and where each metric lies in them."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hpcrun.layout import Attempt
from hpcrun.metrics.series import EXACT, metric_of, numbers_of, standing
from hpcrun.record import Fact, Numbers


class Series(NamedTuple):
    """Where a metric lies: rows of the columns, or bytes of the lines.

    kind, length: as `Metric` has them. last, min, max: its `Numbers`. stands: whether no value was
    logged again by a newer attempt. whole: True if all values are ints, None if some are.
    """

    name: str
    start: int
    stop: int
    kind: str
    length: int
    last: float | None
    min: float | None
    max: float | None
    in_columns: bool
    stands: bool
    whole: bool | None

    @property
    def numbers(self) -> Numbers:
        """What it came to."""
        return Numbers(self.last, self.min, self.max)


class Table:
    """The columns of one run while they are filled."""

    COLUMNS = ("value", "step", "time", "number", "origin", "whole")

    def __init__(self) -> None:
        self.columns = {
            name: array(code) for name, code in zip(self.COLUMNS, "dqqqIB", strict=True)
        }
        self.lines = bytearray()
        self.origins: dict[tuple[str, Attempt, int], int] = {}

    def add(self, name: str, facts: Sequence[Fact]) -> Series:
        """Adds the facts of one metric, in the order of its series."""
        metric = metric_of(name, facts)
        in_columns = all(map(_fits, facts))
        start = self._end(in_columns)
        if in_columns:
            for fact in facts:
                self._add_row(fact)
        else:
            self.add_lines(facts)
        kinds = {type(fact.data["v"]) for fact in facts}
        return Series(
            name,
            start,
            self._end(in_columns),
            metric.kind,
            metric.count,
            *numbers_of(metric),
            in_columns,
            len(standing(facts)) == len(facts),
            True if kinds == {int} else None if int in kinds else False,
        )

    def add_lines(self, facts: Iterable[Fact]) -> None:
        """Adds facts whole."""
        for fact in facts:
            value = [fact.writer, *fact[:5]]
            self.lines += json.dumps(value, separators=(",", ":")).encode() + b"\n"

    def _end(self, in_columns: bool) -> int:
        return len(self.columns["value"]) if in_columns else len(self.lines)

    def _add_row(self, fact: Fact) -> None:
        value = fact.data["v"]
        origin = (fact.writer, fact.attempt, fact.data.get("r", 0))
        row = (
            float(value["f"] if isinstance(value, dict) else value),
            fact.data.get("s", -1),
            round(fact.time * 1000),
            fact.number,
            self.origins.setdefault(origin, len(self.origins)),
            isinstance(value, int),
        )
        for column, cell in zip(self.columns.values(), row, strict=True):
            column.append(cell)


def _fits(fact: Fact) -> bool:
    """Whether the columns can give the fact back as it is."""
    data, number, time = fact.data, fact.number, fact.time
    numbers = (data.get("s", 0), data.get("r", 1), number, *fact.attempt)
    return (
        data.keys() <= {"m", "v", "s", "r"}
        and all(type(value) is int and 0 <= value < 2**62 for value in numbers)
        and data.get("r", 1) > 0
        and type(time) in (int, float)
        and abs(time) < 2**40
        and round(time * 1000) / 1000 == time
        and _is_number(data["v"])
    )


def _is_number(value: object) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is int:
        return abs(value) <= EXACT
    return value in ({"f": "nan"}, {"f": "inf"}, {"f": "-inf"})
