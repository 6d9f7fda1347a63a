"""files, download, collect, clean: what a run has left."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from hpcrun.cli import served
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table, run_object, say, size_of
from hpcrun.errors import StoreError
from hpcrun.progress import counted
from hpcrun.record import RunRecord
from hpcrun.transport.wire import FILE, FOLDER
from hpcrun.workflow.clean import clean as clean_run
from hpcrun.workflow.clean import left_outside
from hpcrun.workflow.collect import collect as collect_run
from hpcrun.workflow.files import (
    Copy,
    RunFile,
    check_files,
    closed_on_disk,
    each_there,
    fetch_file,
    files_of,
    lay_out,
    of_all,
)
from hpcrun.workflow.inventory import CLOSED
from hpcrun.workflow.session import Session, open_session


@click.command()
@click.argument("run")
@click.option("--check", is_flag=True, help="Compare all with what they were at the run's end.")
@json_option
@click.pass_obj
def files(workspace: str | None, run: str, check: bool, as_json: bool) -> None:
    """List a run's files."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    if check:
        _check(session, session.record(run_id, user), as_json)
        return
    found = files_of(session.store, session.store.read(run_id, user))
    if as_json:
        print_json([file._asdict() for file in found])
    else:
        rows = [(f.name, size_of(f.size), f.sha256[:12] if f.sha256 else "-") for f in found]
        print_table(("file", "size", "sha256"), rows)
    if user != session.user:
        for name in closed_on_disk(session.store.paths(run_id, user)):
            say(f"hpcrun: {CLOSED}: {name}", err=True)


def _check(session: Session, record: RunRecord, as_json: bool) -> None:
    found = check_files(session.store, record)
    if as_json:
        print_json({"run_id": record.run_id, "differences": found})
    else:
        for line in found or ["all files are as they were at the run's end"]:
            say(line)
    other = [line for line in found if not line.startswith(CLOSED)]
    if other:
        raise StoreError(f"{len(other)} files of {record.run_id} are not as they were at its end")
    if found:
        message = f"{len(found)} files of {record.run_id} are closed to you, and were not compared"
        raise StoreError(message, "their owner may: chmod g+rX")


@click.command()
@click.argument("run")
@click.argument("name", required=False)
@click.argument("destination", required=False, type=click.Path())
@click.option("--all", "every", is_flag=True, help="All its files, into the folder DESTINATION.")
@click.option("--prefix", metavar="TEXT", help="Those whose names begin so, such as outputs/.")
@json_option
@click.pass_obj
def download(
    workspace: str | None,
    run: str,
    name: str | None,
    destination: str | None,
    every: bool,
    prefix: str | None,
    as_json: bool,
) -> None:
    """Copy the file NAME of a run here, or to DESTINATION: a file, or a folder (made if it ends
    in /).

    With --all or --prefix there is no NAME: files keep their names below the folder DESTINATION.
    """
    many = every or prefix is not None
    if not many and name is None:
        raise click.UsageError("which file? A NAME is needed, or --all, or --prefix")
    if many and destination is not None:
        raise click.UsageError("--all and --prefix choose the files: no NAME goes with them")
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    if many:
        _download_all(session, session.store.read(run_id, user), prefix or "", name, as_json)
        return
    assert name is not None
    copy = _downloaded(session, run_id, user, name, destination)
    if as_json:
        print_json(_object(run_id, name, copy))
    else:
        say(str(copy.path))


def _object(run_id: str, name: str, copy: Copy) -> dict[str, object]:
    told = {"run_id": run_id, "name": name, "path": str(copy.path)}
    return {**told, "size": copy.size, "new": copy.is_new}


def _downloaded(
    session: Session, run_id: str, user: str, name: str, destination: str | None
) -> Copy:
    store, paths = session.store, session.store.paths(run_id, user)
    digests = {file.name: file.sha256 for file in files_of(store, store.read(run_id, user))}
    if not served.is_elsewhere():
        return fetch_file(store, paths, name, destination or Path.cwd(), digests.get(name))
    room, last = served.room(), Path(name).name
    size = lay_out(store, paths, name, room / last)
    lent = RunFile(last, size, digests.get(name))
    taken = served.lend(room, [lent], destination or "", FILE)
    return Copy(taken.path, size, not taken.here)


@click.command(hidden=True)
@click.argument("run")
@click.argument("destination")
@click.pass_obj
def lend(workspace: str | None, run: str, destination: str) -> None:
    """Copy files of a run into the folder DESTINATION; standard input names them, as JSON."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    record, names = session.store.read(run_id, user), {*json.loads(sys.stdin.read())}
    chosen = [file for file in files_of(session.store, record) if file.name in names]
    _, copies, failed = _copied(session, record, chosen, destination)
    print_json([file.name for file, _ in copies])
    if failed:
        raise of_all(failed, len(chosen))


def _download_all(
    session: Session, record: RunRecord, prefix: str, destination: str | None, as_json: bool
) -> None:
    found = files_of(session.store, record)
    chosen = [file for file in found if file.name.startswith(prefix)]
    if not chosen:
        message = f"run {record.run_id} has no file whose name begins with {prefix!r}"
        raise StoreError(message, "hpcrun files RUN lists them")
    folder, copies, failed = _copied(session, record, chosen, destination)
    if as_json:
        print_json([_object(record.run_id, file.name, copy) for file, copy in copies])
    else:
        size, old = sum(copy.size for _, copy in copies), [c for _, c in copies if not c.is_new]
        here_already = f", {len(old)} of them were here already" if old else ""
        say(f"{len(copies)} files ({size_of(size)}) in {folder}{here_already}")
    if record.user != session.user:
        for name in closed_on_disk(session.store.paths(record.run_id, record.user)):
            say(f"hpcrun: {CLOSED}: {name}", err=True)
    if failed:
        raise of_all(failed, len(chosen))


def _copied(
    session: Session, record: RunRecord, chosen: Sequence[RunFile], destination: str | None
) -> tuple[Path, list[tuple[RunFile, Copy]], list[StoreError]]:
    """Copies files into a folder; gives that, those that were copied, and what failed."""
    store, paths = session.store, session.store.paths(record.run_id, record.user)
    folder = Path(destination) if destination else Path.cwd()
    root = served.room() if served.is_elsewhere() else folder

    def copied(file: RunFile) -> tuple[RunFile, Copy]:
        place = root / file.name
        if served.is_elsewhere():
            return file, Copy(place, lay_out(store, paths, file.name, place), True)
        copy = fetch_file(store, paths, file.name, place, file.sha256)
        tell(file.size)
        return file, copy

    def is_over() -> bool:
        return session.record(record.run_id, record.user).state.is_end

    with counted("copying", sum(file.size for file in chosen)) as tell:
        copies, failed = each_there(chosen, copied, is_over)
    if served.is_elsewhere():
        lent = [file._replace(size=copy.size) for file, copy in copies]
        folder, here = served.lend(root, lent, destination or "", FOLDER)
        copies = [
            (file, Copy(folder / file.name, file.size, file.name not in here)) for file in lent
        ]
    return folder, copies, failed


@click.command()
@click.argument("run")
@json_option
@click.pass_obj
def collect(workspace: str | None, run: str, as_json: bool) -> None:
    """Gather what a run left behind whose agent could not."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    gathered = collect_run(session, session.record(run_id, user))
    record = session.record(run_id, user)
    if as_json:
        value = run_object(record, session.store.paths(run_id, user))
        print_json({**value, "collected": list(gathered)})
        return
    for line in gathered or ["nothing was left behind"]:
        say(line)


@click.command()
@click.argument("run")
@json_option
@click.pass_obj
def clean(workspace: str | None, run: str, as_json: bool) -> None:
    """Remove a finished run's copy of its source; outputs, logs and the record stay."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    record = session.record(run_id, user)
    removed, freed = clean_run(session, record)
    left = left_outside(session, record)
    if as_json:
        print_json({"run_id": run_id, "removed": removed, "bytes": freed, "left": left})
        return
    say(f"removed {removed} files ({size_of(freed)}) that the snapshot holds as well")
    if left:
        some = ", ".join(left[:5]) + (" …" if len(left) > 5 else "")
        say(f"{len(left)} files outside of outputs/ and logs/ stay: {some}")
