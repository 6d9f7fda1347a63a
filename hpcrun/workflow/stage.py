"""Where records of elsewhere are laid aside, and what they must be before they are a user's."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.errors import StoreError
from hpcrun.layout import experiment_of
from hpcrun.record import RunRecord
from hpcrun.store import FileStore
from hpcrun.store.plain import folders_in
from hpcrun.workflow.seal import KEPT

if TYPE_CHECKING:
    from filelock import FileLock


@contextlib.contextmanager
def stage(own: Path, begin: str) -> Iterator[Path]:
    """A folder that goes at the end; those of killed processes go at the beginning.

    begin: how its name begins, and theirs.
    """
    for left in (own / name for name in folders_in(own) if name.startswith(begin)):
        _remove_left(left)
    while (made := _made(own / f"{begin}{os.urandom(4).hex()}")) is None:
        pass
    folder, lock = made
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _made(folder: Path) -> tuple[Path, FileLock] | None:
    """A new stage, and its lock; None: before it had that, somebody has taken it for one that was
    left."""
    from filelock import FileLock, Timeout

    folder.mkdir(mode=0o700)
    lock = FileLock(folder / "lock", timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    except OSError:  # no locks here: who finds the stage leaves it some days
        return (folder, lock) if folder.exists() else None
    return folder, lock


def _remove_left(stage: Path) -> None:
    """Removes a stage that nobody holds."""
    from filelock import FileLock, Timeout

    lock = FileLock(stage / "lock", timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        return
    except OSError:
        with contextlib.suppress(OSError):
            if stage.stat().st_mtime > time.time() - KEPT:
                return
    shutil.rmtree(stage, ignore_errors=True)
    lock.release()


def proven(run_id: str, staged: FileStore) -> RunRecord:
    """The record of a run in a stage. StoreError: it is not that run's, or cannot be read."""
    expect_of(run_id, staged.request(staged.paths(run_id))["run_id"])
    record = staged.read(run_id)
    if record.experiment != experiment_of(run_id):
        raise StoreError(f"its record is of experiment {record.experiment!r}")
    return record


def expect_of(run_id: str, named: str) -> None:
    """StoreError if a record names another run than the one that it should be of."""
    if named != run_id:
        raise StoreError(f"its record is that of {named!r}")
