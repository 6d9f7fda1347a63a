"""list, show, wait, cancel: runs and their states."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from hpcrun.cli.main import json_option
from hpcrun.cli.output import how_long, print_json, print_table, run_object, say, when
from hpcrun.errors import ConfigError, Problem, RunCanceled, RunFailed, StoreError, WaitTimeout
from hpcrun.reading import nearest
from hpcrun.record import RunRecord
from hpcrun.state import State
from hpcrun.store.rows import Row
from hpcrun.workflow.cancel import cancel as cancel_run
from hpcrun.workflow.due import seal_later
from hpcrun.workflow.listing import COLUMNS, Order, Wish, list_rows
from hpcrun.workflow.refresh import NOT_REFRESHED
from hpcrun.workflow.session import Session, open_session
from hpcrun.workflow.waiting import deadline


@click.command("list")
@click.option(
    "-n",
    "--last",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many; 0 for all.",
)
@click.option("-e", "--experiment", help="Only runs of this experiment.")
@click.option("-s", "--status", help="Only runs of this status.")
@click.option("-u", "--user", help="Another user's runs.")
@click.option("--children", is_flag=True, help="Child runs as well.")
@click.option("--archived", is_flag=True, help="Archived runs as well.")
@click.option(
    "--sort",
    metavar="KEY",
    help="A metric's name, or created, started, ended, took, experiment, target, status, verdict; "
    "-KEY: greatest first. Default: newest first.",
)
@json_option
@click.pass_obj
def list_runs(
    workspace: str | None,
    last: int,
    experiment: str | None,
    status: str | None,
    user: str | None,
    children: bool,
    archived: bool,
    sort: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first."""
    session = open_session(given=workspace)
    order = Order.parse(sort) if sort else None
    wish = Wish(experiment, state_of(status), children, archived)
    rows = list_rows(session, last or None, wish, user, order, _tell)
    _tell_what_is_old([row.record for row in rows])
    seal_later(session)
    metric = order.column if order and order.column not in COLUMNS else None
    if as_json:
        print_json([_object(session, row, metric) for row in rows])
        return
    if not rows:
        say(f"no runs in {session.workspace}", err=True)
        return
    columns = ["run", "status", "target", "job", "created", "took", "verdict"]
    shown = [_row(row.record) for row in rows]
    if any(row.record.imported for row in rows):
        columns.append("from")
        shown = [(*c, _origin(r.record)) for r, c in zip(rows, shown, strict=True)]
    if metric is not None:
        columns.insert(1, metric)
        shown = [(c[0], _value(r, metric), *c[1:]) for r, c in zip(rows, shown, strict=True)]
    print_table(columns, shown, status_column=columns.index("status"))


def state_of(named: str | None) -> State | None:
    """The state of that name, in any case of letters."""
    if named is None:
        return None
    for state in State:
        if str(state).lower() == named.lower():
            return state
    raise ConfigError(Problem(f"there is no status {named!r}", nearest(named, map(str, State))))


def _tell(error: StoreError) -> None:
    """A run that cannot be read hides no other one."""
    say(f"hpcrun: {error}", err=True)


def _origin(record: RunRecord) -> str:
    return record.imported.user if record.imported is not None else "-"


def _value(row: Row, metric: str) -> str:
    return f"{row.metrics[metric]:.6g}" if metric in row.metrics else "-"


def _object(session: Session, row: Row, metric: str | None) -> dict[str, object]:
    record = row.record
    paths = session.store.paths(record.run_id, record.user)
    stored = session.store.stored(paths)
    where = str(stored.sealed_path(row.number)) if row.number >= 0 else None
    value = run_object(record, paths, where)
    return value if metric is None else {**value, "metrics": {metric: row.metrics.get(metric)}}


def _tell_what_is_old(records: Sequence[RunRecord]) -> None:
    """Says on standard error why states may be old, each reason once."""
    problems = {problem for record in records for problem in record.problems}
    for problem in sorted(p for p in problems if p.startswith(NOT_REFRESHED)):
        say(f"hpcrun: states may be old, {problem}", err=True)


def _row(record: RunRecord) -> tuple[str, ...]:
    attempt = record.attempt
    verdict = record.verdict
    ended = record.ended or time.time()
    took = how_long(ended - record.started) if record.started is not None else "-"
    told = verdict.sentence if verdict and verdict.cause != "completed" else attempt.reason
    return (
        record.run_id,
        str(record.state),
        record.target,
        record.job_id or "-",
        when(record.created),
        took,
        told,
    )


@click.command()
@click.argument("run")
@json_option
@click.pass_obj
def show(workspace: str | None, run: str, as_json: bool) -> None:
    """Show all that is known of a run."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    record = session.record(run_id, user)
    paths = session.store.paths(run_id, user)
    if as_json:
        print_json(run_object(record, paths))
        return
    from hpcrun.cli.show import print_run

    print_run(session, record, paths)


@click.command()
@click.argument("run")
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up after so long.")
@json_option
@click.pass_obj
def wait(workspace: str | None, run: str, timeout: float | None, as_json: bool) -> int:
    """Wait until a run has ended; the exit code tells how: 0, 20 (failed) or 21 (canceled)."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    try:
        record = wait_for(session, run_id, user, timeout)
    except KeyboardInterrupt:
        return tell_goes_on(run_id)
    if as_json:
        print_json(run_object(record, session.store.paths(run_id, user)))
        return exit_code(record)
    say(f"run {run_id}: {record.state}")
    return tell_end(record)


@click.command()
@click.argument("runs", nargs=-1, required=True)
@json_option
@click.pass_obj
def cancel(workspace: str | None, runs: tuple[str, ...], as_json: bool) -> None:
    """Cancel runs, and the children that they have. What has ended already is left as it is."""
    session = open_session(given=workspace)
    found = [session.store.find(run) for run in runs]
    asked = [
        record
        for user, run_id in found
        for record in cancel_run(session, session.store.read(run_id, user))
    ]
    records = session.refreshed(asked)
    if as_json:
        print_json([run_object(r, session.store.paths(r.run_id, r.user)) for r in records])
        return
    for record in records:
        ending = record.state is State.CANCEL_REQUESTED
        told = f"; wait for its end with: hpcrun wait {record.run_id}" if ending else ""
        say(f"run {record.run_id}: {record.state}{told}")


def wait_for(
    session: Session, run_id: str, user: str | None, timeout: float | None = None
) -> RunRecord:
    """The record of a run once it has ended. WaitTimeout; ConfigError: no timeout."""
    until = deadline(timeout)
    pause = 0.2
    while True:
        record = session.record(run_id, user)
        if session.is_over(record):
            return record
        if until is not None and time.monotonic() >= until:
            raise WaitTimeout(f"run {run_id} is still {record.state}", "it goes on; wait again")
        time.sleep(pause if until is None else max(0.0, min(pause, until - time.monotonic())))
        pause = min(pause * 1.3, 10.0)


def tell_goes_on(run_id: str) -> int:
    """Says after Ctrl-C that the run lives, and how to end it; gives the exit code."""
    say(f"\nrun {run_id} goes on; cancel it with: hpcrun cancel {run_id}", err=True)
    return 130


def exit_code(record: RunRecord) -> int:
    """0, 20 or 21, by how the run ended."""
    if record.state is State.COMPLETED:
        return 0
    return RunCanceled.exit_code if record.state is State.CANCELED else RunFailed.exit_code


def tell_end(record: RunRecord) -> int:
    """Says on standard error why a run did not complete; gives the exit code."""
    if record.verdict is not None and record.state is not State.COMPLETED:
        say(f"hpcrun: {Problem(record.verdict.sentence, record.verdict.hint)}", err=True)
    return exit_code(record)
