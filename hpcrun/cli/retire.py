"""archive, delete: runs that nobody needs in lists, or at all."""

from __future__ import annotations

import time

import click

from hpcrun.cli.asking import agreed, tell_nothing_was_deleted
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table, say, size_of, when
from hpcrun.errors import ConfigError, Problem, RunNotFound
from hpcrun.layout import experiment_of
from hpcrun.names import check_experiment
from hpcrun.store.experiments import tell_experiment
from hpcrun.workflow.delete import Deletion, plan_deletion
from hpcrun.workflow.delete import delete as delete_runs
from hpcrun.workflow.session import Session, open_session


@click.command()
@click.argument("runs", nargs=-1)
@click.option("-e", "--experiment", help="The experiment, with all its runs so far.")
@click.option("--undo", is_flag=True, help="Show them in lists again.")
@json_option
@click.pass_obj
def archive(
    workspace: str | None, runs: tuple[str, ...], experiment: str | None, undo: bool, as_json: bool
) -> None:
    """Hide runs from lists. Nothing is deleted; `list --archived` shows them."""
    if not runs and experiment is None:
        raise ConfigError(Problem("nothing is named", "hpcrun archive RUN…, or -e EXPERIMENT"))
    session = open_session(given=workspace)
    found = _own(session, runs)
    if experiment is not None:
        _archive_experiment(session, experiment, undo)
    for run_id in found:
        record = session.store.read(run_id)
        data = {"archived": not undo}
        session.store.append(session.store.paths(run_id), record.attempt.attempt, "archived", data)
    if as_json:
        print_json({"archived": not undo, "runs": found, "experiment": experiment})
        return
    word = "shown again" if undo else "archived"
    for name in [*found, *([f"experiment {experiment}"] if experiment else [])]:
        say(f"{name}: {word}")


def _archive_experiment(session: Session, name: str, undo: bool) -> None:
    check_experiment(name)
    if name not in {experiment_of(run_id) for run_id in session.store.run_ids()}:
        raise RunNotFound(f"there is no run of experiment {name!r}", "hpcrun list shows all")
    tell_experiment(session.store, name, "archived", {"until": None if undo else time.time()})


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Delete without being asked.")
@json_option
@click.pass_obj
def delete(workspace: str | None, runs: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete runs for good, with their children, records and files.

    First says what would go and how much it takes up; without --yes it then asks, and where nobody
    can be asked it deletes nothing. Snapshots, which runs share, and models stay.
    """
    session = open_session(given=workspace)
    records = [session.store.read(run_id) for run_id in _own(session, runs)]
    deletion = plan_deletion(session, records)
    if not as_json:
        _preview(deletion)
        yes = agreed(yes, f"delete {len(deletion.runs)} runs for good?")
    if yes:
        delete_runs(session, deletion)
    if as_json:
        print_json(_object(deletion, yes))
    elif not yes:
        tell_nothing_was_deleted()


def _preview(deletion: Deletion) -> None:
    rows = [
        (
            run.record.run_id,
            run.record.display_name,
            str(run.record.state),
            when(run.record.created),
            str(run.files),
            size_of(run.bytes),
        )
        for run in deletion.runs
    ]
    print_table(("run", "name", "status", "created", "files", "size"), rows, status_column=2)
    total = f"{len(deletion.runs)} runs, {deletion.files} files, {size_of(deletion.bytes)}"
    say(total)


def _object(deletion: Deletion, deleted: bool) -> dict[str, object]:
    return {
        "deleted": deleted,
        "runs": [
            {"run_id": run.record.run_id, "files": run.files, "bytes": run.bytes}
            for run in deletion.runs
        ],
        "files": deletion.files,
        "bytes": deletion.bytes,
    }


def _own(session: Session, runs: tuple[str, ...]) -> list[str]:
    """The ids of this user's runs of these names."""
    found = [session.store.find(run) for run in runs]
    for user, run_id in found:
        session.store.expect_own(run_id, user)
    return list(dict.fromkeys(run_id for _, run_id in found))
