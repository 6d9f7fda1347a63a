"""metrics: what a run has logged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from hpcrun.cli import served
from hpcrun.cli.chart import draw
from hpcrun.cli.main import json_option
from hpcrun.cli.output import bad_lines_told, print_json, print_table, say
from hpcrun.errors import StoreError
from hpcrun.metrics import Metric, azure_shape
from hpcrun.metrics.series import numbers_of
from hpcrun.metrics.system import system_metrics
from hpcrun.record import RunRecord
from hpcrun.workflow.session import open_session


@click.command()
@click.argument("run")
@click.argument("names", nargs=-1)
@click.option("--plot", is_flag=True, help="Draw them in the terminal.")
@click.option("--system", is_flag=True, help="What its nodes did: CPU, memory, disks, GPUs.")
@click.option(
    "--export",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Write them into FOLDER/<run id> as an event file of TensorBoard.",
)
@json_option
@click.pass_obj
def metrics(
    workspace: str | None,
    run: str,
    names: tuple[str, ...],
    plot: bool,
    system: bool,
    export: Path | None,
    as_json: bool,
) -> None:
    """Print a run's metrics, all or those named."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    logged = session.store.logged(session.store.paths(run_id, user))
    found = system_metrics(logged.notes) if system else logged.metrics
    missing = [name for name in names if name not in found]
    if missing:
        known = ", ".join(sorted(found)) or "none"
        raise StoreError(f"run {run_id} has no metric {missing[0]!r}", f"it has {known}")
    if logged.bad_lines:
        say(f"hpcrun: {bad_lines_told(logged.bad_lines)}", err=True)
    chosen = {name: found[name] for name in (names or sorted(found))}
    if export is not None:
        _export(session.store.read(run_id, user), chosen, export, as_json)
    elif as_json:
        print_json({name: azure_shape(metric) for name, metric in chosen.items()})
    elif plot:
        draw(chosen)
    else:
        rows = [(n, m.last_text(), str(m.count), _range(m)) for n, m in chosen.items()]
        print_table(("metric", "last", "values", "range"), rows)


def _export(record: RunRecord, chosen: Mapping[str, Metric], folder: Path, as_json: bool) -> None:
    from hpcrun.tensorboard.folder import RunEvents

    file = RunEvents(folder / record.run_id, record.created).file
    if file.exists() and not served.is_elsewhere():
        raise StoreError(f"{file} is there already", "name another folder")
    with served.written(file) as place:
        count = RunEvents(place.parent, record.created).show(chosen)
    if as_json:
        print_json({"run_id": record.run_id, "path": str(file), "values": count})
    else:
        say(f"{count} values in {file}")


def _range(metric: Metric) -> str:
    came_to = numbers_of(metric)
    return "" if came_to.min is None else f"{came_to.min:.6g} … {came_to.max:.6g}"
