"""What a metric came to, in few numbers."""

from __future__ import annotations

from typing import NamedTuple

from hpcrun.metrics import Metric, Value
from hpcrun.metrics.series import numbers_of
from hpcrun.record import Numbers


class Summary(NamedTuple):
    """A metric of a run.

    last: the last value; of a table None, of a chart its kind. text: the same for people; of a
    table its size. values: how many, or rows. numbers: what it came to.
    """

    last: Value
    text: str
    values: int
    numbers: Numbers


def summary_of(metric: Metric) -> Summary:
    """The summary of a metric."""
    last = metric.values[-1] if metric.values else None
    return Summary(
        last=str(last["schema_type"]) if isinstance(last, dict) else last,
        text=metric.last_text(),
        values=metric.count,
        numbers=numbers_of(metric),
    )
