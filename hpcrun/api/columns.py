"""Metrics as columns: NumPy arrays, and a pandas frame where pandas is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpcrun.metrics import Metric, Value
from hpcrun.metrics.series import EXACT

if TYPE_CHECKING:
    import numpy
    import pandas


def columns_of(metric: Metric) -> dict[str, numpy.ndarray[Any, Any]]:
    """A metric's steps, ranks, attempts, times and values; see `Run.get_metric_columns`."""
    import numpy

    own = {
        "step": numpy.array([-1 if s is None else s for s in metric.steps], numpy.int64),
        "rank": numpy.array(metric.ranks, numpy.int64),
        "attempt": numpy.array([str(attempt) for attempt in metric.attempts], numpy.str_),
        "time": numpy.array(metric.times, numpy.float64),
    }
    columns = {}
    for name, values in metric.columns.items():
        shown = name
        while shown in own or (shown != name and shown in metric.columns):
            shown += "_"
        columns[shown] = _array(values)
    return own | columns


def frame_of(columns: Mapping[str, numpy.ndarray[Any, Any]]) -> pandas.DataFrame:
    """Columns as a pandas frame."""
    import pandas

    return pandas.DataFrame(columns)


def _array(values: Sequence[Value]) -> numpy.ndarray[Any, Any]:
    """The values in the narrowest of bool, int64, float64 and object that holds them exactly."""
    import numpy

    kinds = {type(value) for value in values}
    told = [value for value in values if value is not None]
    if kinds == {bool}:
        return numpy.array(values, numpy.bool_)
    if kinds == {int} and all(-(2**63) <= int(v) < 2**63 for v in told):  # type: ignore[arg-type]
        return numpy.array(values, numpy.int64)
    numbers = (kinds <= {int, float, type(None)} and float in kinds) or kinds == {int, type(None)}
    if numbers and all(isinstance(v, float) or abs(int(v)) <= EXACT for v in told):  # type: ignore[arg-type]
        return numpy.array([numpy.nan if v is None else v for v in values], numpy.float64)
    array = numpy.empty(len(values), numpy.object_)
    array[:] = values
    return array
