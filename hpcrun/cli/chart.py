"""Charts in the terminal, and as plain text where nobody looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from hpcrun.cli.output import at_terminal, printable
from hpcrun.metrics import Metric

Points = Sequence[tuple[int, float]]

_MOST = 4_000
"""Points of a series: more take seconds, and look the same."""

_GREATEST = 1e300
"""Beyond it the difference of two numbers may be no number any more."""


def draw(metrics: Mapping[str, Metric], height: int = 14) -> None:
    """A chart of each metric that has numbers, over its steps."""
    for name, metric in metrics.items():
        draw_series(name, {"": metric.points()}, height)


def draw_series(title: str, series: Mapping[str, Points], height: int = 18) -> None:
    """One chart of several series, told apart by colors; in plain text by the marks they are
    named by. One without points is left out; without any nothing is drawn."""
    import plotext

    lines = {mark: _plottable(points) for mark, points in series.items()}
    lines = {mark: points for mark, points in lines.items() if points}
    if not lines:
        return
    plain = not at_terminal()
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plotsize(min(100, plotext.terminal_width() or 80), height)
    plotext.title(printable(title))
    for number, (mark, points) in enumerate(lines.items()):
        look = {"marker": mark[0] if mark and plain else "hd"}
        if mark and not plain:
            look |= {"label": mark, "color": _COLORS[number % len(_COLORS)]}
        plotext.plot([step for step, _ in points], [value for _, value in points], **look)
    steps = [step for points in lines.values() for step, _ in points]
    plotext.xticks(_ticks(min(steps), max(steps)))
    text = plotext.build()
    click.echo(plotext.uncolorize(text) if plain else text)


_COLORS = ("blue+", "red+", "green+", "orange+", "magenta+", "cyan+", "gray+")


def _plottable(points: Points) -> Points:
    """Points that can be drawn; of very many the least and the greatest of each stretch."""
    told = [(step, value) for step, value in points if abs(value) <= _GREATEST]
    if len(told) <= _MOST:
        return told
    length = -(-2 * len(told) // _MOST)
    stretches = [told[place : place + length] for place in range(0, len(told), length)]
    ends = [(min(one, key=_value), max(one, key=_value)) for one in stretches]
    return [point for pair in ends for point in sorted(set(pair))]


def _value(point: tuple[int, float]) -> float:
    return point[1]


def _ticks(first: int, last: int, count: int = 5) -> list[int]:
    """At most so many whole numbers from the first step to the last."""
    every = max(1, -(-(last - first) // (count - 1)))
    return [*range(first, last, every), last] if last > first else [first]
