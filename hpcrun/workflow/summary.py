"""What a metric came to, in few numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

from hpcrun.metrics import Metric, Value


class Summary(NamedTuple):
    """A metric of a run.

    last: the last value; of a table None, of a chart its kind. text: the same for people; of a
    table its size. values: how many, or rows. minimum, maximum: of the finite
    numbers of the lowest rank; None without any.
    """

    last: Value
    text: str
    values: int
    minimum: float | None
    maximum: float | None

    @property
    def number(self) -> float | None:
        """The last value, if it is a finite number."""
        if isinstance(self.last, bool) or not isinstance(self.last, (int, float)):
            return None
        try:
            number = float(self.last)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None


def summary_of(metric: Metric) -> Summary:
    """The summary of a metric."""
    numbers = [number for _, number in metric.points()]
    last = metric.values[-1] if metric.values else None
    return Summary(
        last=str(last["schema_type"]) if isinstance(last, dict) else last,
        text=metric.last_text(),
        values=metric.count,
        minimum=min(numbers, default=None),
        maximum=max(numbers, default=None),
    )
