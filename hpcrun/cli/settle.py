"""settle: what another machine's hpcrun asks after a submission that was cut."""

from __future__ import annotations

import click

from hpcrun.cli.output import print_json, run_object
from hpcrun.workflow.session import open_session
from hpcrun.workflow.settle import settle as settle_run


@click.command(hidden=True)
@click.argument("run_id")
@click.pass_obj
def settle(workspace: str | None, run_id: str) -> None:
    """Say what became of a submission: the run as JSON, or null. What was not begun never is."""
    session = open_session(given=workspace)
    record = settle_run(session, run_id)
    print_json(record and run_object(record, session.store.paths(run_id)))
