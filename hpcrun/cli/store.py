"""store: looking after the run history."""

from __future__ import annotations

import os
import time

import click

from hpcrun.cli.exchange import export, import_runs
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, say, size_of
from hpcrun.cli.probe import probe
from hpcrun.cli.setup import setup
from hpcrun.cli.store_check import check_store
from hpcrun.cli.store_gc import collect_garbage
from hpcrun.cli.store_stats import stats
from hpcrun.workflow.listing import index
from hpcrun.workflow.seal import LOW, Sealing, seal_all, seal_run
from hpcrun.workflow.session import Session, open_session


@click.group()
def store() -> None:
    """Look after the run history."""


store.add_command(export)
store.add_command(import_runs)
store.add_command(probe)
store.add_command(setup)


@store.command()
@click.argument("runs", nargs=-1)
@click.option("--due", is_flag=True, help="Only what ended some time ago; say nothing.")
@json_option
@click.pass_obj
def seal(workspace: str | None, runs: tuple[str, ...], due: bool, as_json: bool) -> None:
    """Make one file of each run that has ended: RUNs, or all of yours that can be.

    Nothing changes for readers. The journals are removed a week later.
    """
    session = open_session(given=workspace)
    if due:
        os.nice(LOW)
        session.alone("seal", lambda: [*seal_all(session, due_only=True)])
        return
    done = [_sealed(session, run) for run in runs] if runs else list(seal_all(session))
    if as_json:
        print_json([_object(sealing) for sealing in done])
        return
    for sealing in done:
        if sealing.path is not None:
            size = size_of(sealing.path.stat().st_size)
            say(f"run {sealing.run_id}: {size} in {sealing.path}")
        else:
            say(f"run {sealing.run_id}: not sealed: {sealing.reason}", err=True)


@store.command("index")
@click.option("-u", "--user", help="Of another user's runs, in your own cache.")
@json_option
@click.pass_obj
def make_index(workspace: str | None, user: str | None, as_json: bool) -> None:
    """Make the index of sealed runs anew, from the sealed files alone."""
    count = index(open_session(given=workspace), user, anew=True)
    if as_json:
        print_json({"runs": count})
    else:
        say(f"the index knows {count} runs")


for command in (check_store, collect_garbage, stats):
    store.add_command(command)


def _sealed(session: Session, run: str) -> Sealing:
    user, run_id = session.store.find(run)
    record = session.record(run_id, user)
    return Sealing(run_id, seal_run(session, record, time.time()))


def _object(sealing: Sealing) -> dict[str, object]:
    path = sealing.path
    return {
        "run_id": sealing.run_id,
        "sealed": str(path) if path is not None else None,
        "bytes": path.stat().st_size if path is not None else None,
        "reason": sealing.reason or None,
    }
