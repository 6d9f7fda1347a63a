"""store export, store import: runs that move to another workspace."""

from __future__ import annotations

from pathlib import Path

import click

from hpcrun.cli import served
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, say, size_of
from hpcrun.errors import ConfigError, Problem, StoreError
from hpcrun.record import RunRecord
from hpcrun.store.wanted import Wanted, state_of
from hpcrun.workflow.exporting import Export, family, obstacle
from hpcrun.workflow.exporting import export as export_runs
from hpcrun.workflow.importing import Taken, take_in
from hpcrun.workflow.listing import list_rows
from hpcrun.workflow.session import Session, open_session


@click.command()
@click.argument("runs", nargs=-1)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="A new file; compressed if its name ends in .gz or .tgz.",
)
@click.option("-e", "--experiment", help="The runs of this experiment that have ended.")
@click.option("-s", "--status", help="Only those of this status.")
@click.option("-u", "--user", help="Another user's runs.")
@click.option("--archived", is_flag=True, help="Archived runs as well.")
@click.option(
    "--without",
    metavar="PATTERN",
    multiple=True,
    help="Leave out files whose name fits, such as 'outputs/*.ckpt'; '*': all. Can be repeated.",
)
@json_option
@click.pass_obj
def export(
    workspace: str | None,
    runs: tuple[str, ...],
    output: Path,
    experiment: str | None,
    status: str | None,
    user: str | None,
    archived: bool,
    without: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write runs into one file: RUNs, or those that -e, -s, -u and --archived choose as in `list`.

    Their children go along, with records, files and sources. A run must have ended.
    """
    session = open_session(given=workspace)
    wanted = Wanted(experiment, state_of(status), view="All" if archived else "ActiveOnly")
    notes: list[str] = []
    if runs:
        found = [session.store.find(run, user) for run in runs]
        records = family(session, [session.store.read(run_id, of) for of, run_id in found])
        for record in records:
            reason, hint = obstacle(session, record)
            if reason:
                raise StoreError(f"run {record.run_id} cannot be exported: {reason}", hint)
    elif wanted == Wanted() and user is None:
        raise ConfigError(Problem("nothing is named", "hpcrun store export RUN…, or -e, -s, -u"))
    else:
        records = _chosen(session, wanted, user, notes)
    if not records:
        raise StoreError(f"there is no run to export in {session.workspace}", "see `hpcrun list`")
    with served.written(output) as place:
        done = export_runs(session, records, place.absolute(), without)
    _tell(done._replace(path=output), [*notes, *done.notes], as_json)


def _chosen(
    session: Session, wanted: Wanted, user: str | None, notes: list[str]
) -> list[RunRecord]:
    """Runs as `list` would show them. notes: grows by those that cannot go along."""

    def unread(error: StoreError) -> None:
        notes.append(error.message)

    rows = list_rows(session, None, wanted, user, tell=unread)
    tops = [session.store.read(row.record.run_id, row.record.user) for row in rows]
    chosen = []
    for record in family(session, tops):
        reason, _ = obstacle(session, record)
        if reason:
            notes.append(f"run {record.run_id} is left out: {reason}")
        else:
            chosen.append(record)
    return chosen


def _tell(done: Export, notes: list[str], as_json: bool) -> None:
    for note in notes:
        say(f"hpcrun: {note}", err=True)
    if not as_json:
        files = sum(run.files for run in done.runs)
        size = size_of(done.bytes)
        say(f"{len(done.runs)} runs with {files} files: {size} in {done.path}")
        return
    told = [
        {
            "run_id": run.record.run_id,
            "user": run.record.user,
            "files": run.files,
            "bytes": run.bytes,
            "left_out": run.left_out,
        }
        for run in done.runs
    ]
    print_json({"path": str(done.path), "bytes": done.bytes, "runs": told, "notes": notes})


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@click.pass_obj
def import_runs(workspace: str | None, file: Path, as_json: bool) -> None:
    """Take in the runs of an export, as your own.

    What is here already stays as it is. An export that is damaged is refused as a whole.
    """
    taken = take_in(open_session(given=workspace), file.absolute())
    refused = [run for run in taken if run.reason]
    if as_json:
        print_json([_object(run) for run in taken])
    for run in taken:
        if run.reason:
            say(f"hpcrun: run {run.run_id} was not taken in: {run.reason}", err=True)
        elif not as_json:
            say(f"run {run.run_id}: {_outcome(run)}")
    if refused:
        raise StoreError(f"{len(refused)} of {len(taken)} runs were not taken in")


def _object(run: Taken) -> dict[str, object]:
    return {
        "run_id": run.run_id,
        "user": run.user,
        "imported": run.is_new,
        "reason": run.reason or None,
    }


def _outcome(run: Taken) -> str:
    return f"taken in, {run.user}'s" if run.is_new else "here already"
