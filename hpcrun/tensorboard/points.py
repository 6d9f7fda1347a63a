"""Metrics as points of TensorBoard, and what must be appended to show them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from hpcrun.metrics import Metric, Value
from hpcrun.tensorboard.event_file import Point, restart, scalar


def points_of(metrics: Mapping[str, Metric]) -> Iterator[Point]:
    """The numbers of all metrics that are no tables, nan and the infinities included.

    The tag is the metric's name, of a rank other than 0 with `/rank_1` behind it. Without a step,
    a value's place in its series counts.
    """
    for name, metric in metrics.items():
        places: Counter[int] = Counter()
        for place, value in enumerate(metric.values):
            rank, step, number = metric.ranks[place], metric.steps[place], _number(value)
            if number is not None:
                tag = name if rank == 0 else f"{name}/rank_{rank}"
                at = places[rank] if step is None else step
                yield Point(tag, at, number, metric.times[place])
            places[rank] += 1


def additions(written: Counter[Point], wanted: Counter[Point], time: float) -> Iterator[bytes]:
    """The records that make of a file with the written points one that shows those wanted.

    A point may stand no more (a newer attempt logged its step again), or come behind a later step
    of its tag. Then TensorBoard is told to forget its step and all later ones, which are written
    once more.
    """
    new, steps = wanted - written, [point.step for point in written - wanted]
    newest: dict[str, int] = {}
    for point in written:
        newest[point.tag] = max(newest.get(point.tag, 0), point.step)
    steps += [point.step for point in new if point.step < newest.get(point.tag, 0)]
    if steps:
        begin = min(steps)
        yield restart(begin, time)
        again = {point: count for point, count in wanted.items() if point.step >= begin}
        new = Counter({p: count for p, count in new.items() if p.step < begin} | again)
    yield from map(scalar, _in_order(new.elements()))


def _in_order(points: Iterable[Point]) -> list[Point]:
    return sorted(points, key=lambda point: (point.step, point.time))


def _number(value: Value) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
