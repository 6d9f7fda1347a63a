"""Mending what is safe to mend: nothing that was acknowledged is lost by it."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path

from hpcrun.errors import HpcrunError, StoreError
from hpcrun.faults import told
from hpcrun.layout import RunPaths
from hpcrun.rights import kept_to
from hpcrun.store.index import generation_path, reopen
from hpcrun.store.sealing import unseal
from hpcrun.store.stored import DAMAGED
from hpcrun.workflow.care.finding import (
    Chmod,
    Finding,
    MakeIndex,
    RemoveEmpty,
    Reseal,
    SetAside,
)
from hpcrun.workflow.care.walk import walk
from hpcrun.workflow.listing import index_room
from hpcrun.workflow.seal import seal_run
from hpcrun.workflow.session import Session


def mend(session: Session, finding: Finding) -> str:
    """Mends what was found in this user's own history; says what was done. HpcrunError."""
    path = Path(finding.path)
    with told(f"mend {path}"):
        match finding.mend:
            case Reseal(paths, without):
                with kept_to(paths.owner.root):
                    return _seal_again(session, paths, without)
            case Chmod(mode):
                if not stat.S_ISLNK(path.lstat().st_mode):
                    path.chmod(mode)
                return f"{path} has mode {mode:o}"
            case MakeIndex(room, damaged):
                for number in damaged:
                    generation_path(room.indexes, number).unlink(missing_ok=True)
                count = index_room(session, room, anew=True)
                return f"the index was made anew: it knows {count} runs"
            case SetAside():
                return f"{path} is {_set_aside(path).name} now"
            case RemoveEmpty():
                for entry in reversed([*walk(finding.path)]):
                    Path(entry.path).rmdir()
                return f"{path} was removed"
    raise StoreError(f"{path} cannot be mended by itself", finding.cure)


def _seal_again(session: Session, paths: RunPaths, without: tuple[int, ...]) -> str:
    """The kept journals become the record; the damaged files stay until that is sealed.

    Killed anywhere, the run reads from its journals.
    """
    run, run_id = session.store.stored(paths), paths.run_id
    unseal(run, without)
    try:
        sealed = seal_run(session, session.record(run_id), time.time())
        said = f"run {run_id} was sealed again: {sealed}"
    except HpcrunError as error:
        said = f"the journals of run {run_id} are its record again ({error.message})"
    for number in without:
        with contextlib.suppress(FileNotFoundError):
            _set_aside(run.sealed_path(number))
    reopen(paths.owner, run_id, time.time())
    return said


def _set_aside(path: Path) -> Path:
    """Gives a damaged file a name that nobody reads; a week later it goes."""
    aside = path.with_name(f".{path.name}{DAMAGED}")
    path.rename(aside)
    os.utime(aside)
    return aside
