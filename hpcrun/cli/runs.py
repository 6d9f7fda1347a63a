"""show, wait, cancel: one run and its state."""

from __future__ import annotations

import time

import click

from hpcrun.cli import served
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, run_object, say
from hpcrun.errors import Problem, RunCanceled, RunFailed, WaitTimeout
from hpcrun.record import RunRecord
from hpcrun.state import State
from hpcrun.workflow.cancel import cancel as cancel_run
from hpcrun.workflow.mirrored import expect_here
from hpcrun.workflow.session import Session, open_session
from hpcrun.workflow.waiting import deadline


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
    words = ["wait", f"{user}/{run_id}", *["--json"] * as_json]
    served.goes_on(words, seconds=timeout)
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
        ending = not record.state.is_end
        told = f"; wait for its end with: hpcrun wait {record.run_id}" if ending else ""
        say(f"run {record.run_id}: {record.state}{told}")


def wait_for(
    session: Session, run_id: str, user: str | None, timeout: float | None = None
) -> RunRecord:
    """The record of a run once it has ended. WaitTimeout; ConfigError: no timeout.
    SchedulerError: it is a mirror of one that goes on."""
    until = deadline(timeout)
    pause = 0.2
    while True:
        record = session.record(run_id, user)
        if session.is_over(record):
            return record
        expect_here(record, "wait")
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
