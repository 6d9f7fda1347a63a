"""Metric facts as series, and in Azure ML's shapes. Pure; standard library only (Python 3.8+).

The data of a fact of kind "metric":

    m   the metric's name
    y   "list", "row", "table", "image" or the name of a chart; absent: one value
    v   one value; a list of values; an object of values; an object of lists (see `values`);
        the name of an image's file; a document (see `charts`)
    s   the step, if one was given
    r   the rank, if it is not 0

Whatever the order in which facts come, and however often, the result is the same. Values stand in
the order in which they were logged: by attempt, rank, process, and call. Where several attempts
logged a value for the same step, the newest attempt's stand; all else is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from hpcrun.layout import Attempt
from hpcrun.metrics.images import content_of
from hpcrun.metrics.values import Value, decoded
from hpcrun.record import Fact, Numbers

SCALAR, LIST, TABLE, IMAGE = "scalar", "list", "table", "image"

EXACT = 2**53
"""Up to here every int is a float."""


@dataclass(frozen=True)
class Metric:
    """All that was logged under one name. steps, ranks, attempts, times go with the values.

    kind: "table" if any row or table was logged, else "list" if any list was; "image" or the name
    of a chart if nothing else was; else "scalar".
    columns: equally long; None where a row lacks a column. Values that were not logged as a row
    or table stand in the column that has the metric's own name.
    times: Unix seconds by the writer's clock.
    """

    name: str
    kind: str
    columns: Mapping[str, Sequence[Value]]
    steps: Sequence[Optional[int]]
    ranks: Sequence[int]
    attempts: Sequence[Attempt]
    times: Sequence[float]

    @property
    def count(self) -> int:
        """How many values, or rows."""
        return len(self.times)

    @property
    def values(self) -> Sequence[Value]:
        """The values that were not logged as a row or table."""
        return self.columns.get(self.name, ())

    def points(self) -> List[Tuple[int, float]]:
        """(step, number), by step, of the lowest rank: what a chart shows.

        Without a step, a value's place in the series counts. Texts, nan and inf are left out.
        """
        if self.kind == TABLE or not self.ranks:
            return []
        lowest = min(self.ranks)
        found: List[Tuple[int, float]] = []
        place = 0
        for step, rank, value in self._rows():
            if rank != lowest:
                continue
            number = finite(value)
            if number is not None:
                found.append((place if step is None else step, number))
            place += 1
        return sorted(found, key=lambda point: point[0])

    def _rows(self) -> Iterator[Tuple[Optional[int], int, Value]]:
        for place, value in enumerate(self.values):
            yield self.steps[place], self.ranks[place], value

    def last_text(self) -> str:
        """The last value, for people; of a table its size."""
        if self.kind == TABLE:
            return f"{self.count} rows × {len(self.columns)} columns"
        return text_of(self.values[-1] if self.values else None)


def numbers_of(metric: Metric) -> Numbers:
    """What a metric came to, over all ranks: the last value is the highest rank's."""
    numbers = [finite(value) for value in metric.values] if metric.kind != TABLE else []
    known = [number for number in numbers if number is not None]
    return Numbers(
        numbers[-1] if numbers else None, min(known, default=None), max(known, default=None)
    )


def text_of(value: Value) -> str:
    """A value for people."""
    if isinstance(value, dict):
        return str(value["schema_type"])
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an int of {value.bit_length()} bits"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def metrics_of(facts: Iterable[Fact]) -> Dict[str, Metric]:
    """The metrics that facts tell, by name, in the order of names; other facts are passed over."""
    by_name: Dict[str, List[Fact]] = {}
    for fact in ordered(facts):
        by_name.setdefault(fact.data["m"], []).append(fact)
    return {name: metric_of(name, by_name[name]) for name in sorted(by_name)}


def azure_shape(metric: Metric) -> Union[Value, List[Value], Dict[str, List[Value]]]:
    """One value as itself, several as a list, a table as a dict of lists."""
    if metric.kind == TABLE:
        return {name: list(column) for name, column in metric.columns.items()}
    if metric.kind != LIST and len(metric.values) == 1:
        return metric.values[0]
    return list(metric.values)


def azure_shapes(
    metrics: Mapping[str, Metric], name: Optional[str] = None, artifacts: Iterable[Fact] = ()
) -> Dict[str, Any]:
    """Metrics by name in Azure ML's shapes; name: only that one.

    artifacts: where images shall be bytes: the facts that hold them.
    """
    chosen = {key: metric for key, metric in metrics.items() if name in (None, key)}
    shapes: Dict[str, Any] = {key: azure_shape(metric) for key, metric in chosen.items()}
    held = list(artifacts)
    for key, metric in chosen.items():
        if held and metric.kind == IMAGE:
            contents = [content_of(held, str(value)) for value in metric.values]
            shapes[key] = contents[0] if len(contents) == 1 else contents
    return shapes


def ordered(facts: Iterable[Fact]) -> List[Fact]:
    """The metrics among facts, each once, in the order of their series."""
    unique = {(f.attempt, f.writer, f.number): f for f in facts if f.kind == "metric"}
    begins: Dict[Tuple[Attempt, str], float] = {}
    for fact in unique.values():
        key = (fact.attempt, fact.writer)
        begins[key] = min(begins.get(key, fact.time), fact.time)

    def place(fact: Fact) -> Tuple[Attempt, int, float, str, int]:
        begin = begins[fact.attempt, fact.writer]
        return fact.attempt, fact.data.get("r", 0), begin, fact.writer, fact.number

    return sorted(unique.values(), key=place)


class _Row(NamedTuple):
    fact: Fact
    cells: Mapping[str, Any]


def metric_of(name: str, facts: Sequence[Fact]) -> Metric:
    """The metric that facts of one name tell, which stand in the order of their series."""
    stand = standing(facts)
    rows = [row for fact in stand for row in _rows(name, fact)]
    columns = list(dict.fromkeys(column for fact in stand for column in _columns(name, fact)))
    if not columns and _kind(facts) != TABLE:
        columns = [name]
    return Metric(
        name=name,
        kind=_kind(facts),
        columns={c: _unified([decoded(row.cells.get(c)) for row in rows]) for c in columns},
        steps=[row.fact.data.get("s") for row in rows],
        ranks=[row.fact.data.get("r", 0) for row in rows],
        attempts=[row.fact.attempt for row in rows],
        times=[row.fact.time for row in rows],
    )


def standing(facts: Sequence[Fact]) -> List[Fact]:
    """Without the values of steps that a newer attempt logged again."""
    newest: Dict[int, Attempt] = {}
    for fact in facts:
        step = fact.data.get("s")
        if step is not None:
            newest[step] = max(newest.get(step, fact.attempt), fact.attempt)
    return [f for f in facts if newest.get(f.data.get("s", -1), f.attempt) == f.attempt]


def _kind(facts: Sequence[Fact]) -> str:
    kinds = {fact.data.get("y") for fact in facts}
    if kinds & {"row", "table"}:
        return TABLE
    if "list" in kinds:
        return LIST
    return str(kinds.pop() or SCALAR) if len(kinds) == 1 else SCALAR


def _columns(name: str, fact: Fact) -> Iterable[str]:
    """The columns that a fact tells, also where it tells no row."""
    kind, value = fact.data.get("y"), fact.data["v"]
    if kind in ("row", "table"):
        columns: Iterable[str] = value
        return columns
    return () if kind == "list" and not value else (name,)


def _rows(name: str, fact: Fact) -> List[_Row]:
    kind, value = fact.data.get("y"), fact.data["v"]
    if kind == "list":
        return [_Row(fact, {name: element}) for element in value]
    if kind == "row":
        return [_Row(fact, value)]
    if kind == "table":
        length = max([len(column) for column in value.values()] or [0])
        return [_Row(fact, {c: value[c][place] for c in value}) for place in range(length)]
    return [_Row(fact, {name: value})]


def _unified(values: List[Value]) -> List[Value]:
    """A column of ints and floats as floats, if floats hold all of its ints."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds != {int, float}:
        return values
    ints = [value for value in values if isinstance(value, int)]
    if max(ints) > EXACT or min(ints) < -EXACT:
        return values
    return [float(value) if isinstance(value, int) else value for value in values]


def finite(value: Value) -> Optional[float]:
    """The value as a number on a chart's axis; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
