"""compare: the metrics of several runs, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_letters
from typing import Any, NamedTuple

import click

from hpcrun.cli.chart import draw_series
from hpcrun.cli.main import json_option
from hpcrun.cli.output import at_terminal, number, print_json, print_table
from hpcrun.errors import ConfigError, Problem, StoreError
from hpcrun.metrics import Metric
from hpcrun.record import RunRecord
from hpcrun.workflow.session import Session, open_session
from hpcrun.workflow.summary import Summary, summary_of


class _Run(NamedTuple):
    """A run and its metrics. mark: by which tables and charts name it."""

    mark: str
    record: RunRecord
    metrics: Mapping[str, Metric]


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("-m", "--metric", "names", multiple=True, help="Only this metric; may be repeated.")
@click.option("--plot", metavar="METRIC", help="Draw one metric of all runs.")
@json_option
@click.pass_obj
def compare(
    workspace: str | None,
    runs: tuple[str, ...],
    names: tuple[str, ...],
    plot: str | None,
    as_json: bool,
) -> None:
    """Compare the metrics of RUNS: last value, least, greatest, and how many there are."""
    found = _found(open_session(given=workspace), runs)
    known = sorted({name for run in found for name in run.metrics})
    for name in (*names, *([plot] if plot is not None else [])):
        if name not in known:
            raise StoreError(f"none of these runs has a metric {name!r}", _known(known))
    chosen = list(dict.fromkeys(names)) or known
    if as_json:
        print_json([_object(run, chosen) for run in found])
        return
    if at_terminal() or plot is not None:
        rows = [(run.mark, run.record.run_id, str(run.record.state)) for run in found]
        print_table(("", "run", "status"), rows, status_column=2)
        click.echo()
    if plot is not None:
        points = {run.mark: run.metrics[plot].points() for run in found if plot in run.metrics}
        if not any(points.values()):
            raise StoreError(f"the metric {plot!r} has no numbers to draw", "hpcrun metrics RUN")
        draw_series(plot, points)
    else:
        _print(found, chosen)


def _known(names: Sequence[str]) -> str:
    return f"they have {', '.join(names)}" if names else "they have none"


def _found(session: Session, named: Sequence[str]) -> list[_Run]:
    places = list(dict.fromkeys(session.store.find(name) for name in named))
    if len(places) > len(ascii_letters):
        most = f"{len(places)} runs are named, and {len(ascii_letters)} can be compared"
        raise ConfigError(Problem(most, "hpcrun list --json | … compares more"))
    records = session.refreshed(session.store.read(run_id, user) for user, run_id in places)
    letters = ascii_letters[26:] + ascii_letters[:26]
    return [
        _Run(mark, record, _metrics(session, record))
        for mark, record in zip(letters, records, strict=False)
    ]


def _metrics(session: Session, record: RunRecord) -> Mapping[str, Metric]:
    paths = session.store.paths(record.run_id, record.user)
    return session.store.metrics(paths)


def _object(run: _Run, names: Sequence[str]) -> dict[str, Any]:
    summaries = {name: summary_of(run.metrics[name]) for name in names if name in run.metrics}
    return {
        "run_id": run.record.run_id,
        "status": str(run.record.state),
        "metrics": {
            name: {
                "last": summary.last,
                "minimum": summary.numbers.min,
                "maximum": summary.numbers.max,
                "values": summary.values,
            }
            for name, summary in summaries.items()
        },
    }


def _print(found: Sequence[_Run], names: Sequence[str]) -> None:
    """A line for each metric of each run; at a terminal the name of a metric stands once."""
    people, rows = at_terminal(), []
    for name in names:
        having = [run for run in found if name in run.metrics]
        for place, run in enumerate(having):
            shown = name if place == 0 or not people else ""
            called = run.mark if people else run.record.run_id
            rows.append((shown, called, *_cells(summary_of(run.metrics[name]))))
    print_table(("metric", "run", "last", "min", "max", "values"), rows)


def _cells(summary: Summary) -> tuple[str, ...]:
    least, greatest = map(number, (summary.numbers.min, summary.numbers.max))
    return summary.text, least, greatest, str(summary.values)
