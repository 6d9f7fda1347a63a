"""What a run takes up on disk, and removing it for good."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hpcrun.faults import told
from hpcrun.layout import RunPaths
from hpcrun.store.index import reopen
from hpcrun.store.stored import DAMAGED, StoredRun


def taken_up(paths: RunPaths) -> tuple[int, int]:
    """(files, bytes) of a run's record and files. Symbolic links count, what they name does not."""
    run = StoredRun(paths)
    with told(f"read {paths.files}"):
        folders = [paths.record, paths.files, *map(str, run.retired_folders())]
        sizes = [size for folder in folders for size in _sizes(folder)]
        for number in run.seals():
            with suppress(FileNotFoundError):  # a later one has taken its place
                sizes.append(run.sealed_path(number).lstat().st_size)
    return len(sizes), sum(sizes)


def bytes_of_record(paths: RunPaths) -> int:
    """What the journals of a run and its other records take up, as far as they are not sealed."""
    with told(f"read {paths.record}"):
        return sum(_sizes(paths.record))


def remove(paths: RunPaths) -> None:
    """Removes a run. Killed on the way, it is still there and can be removed again, or gone.

    Its files go first, then what is kept beside its record: journals that are sealed, and seals of
    a run that is unsealed. The record then vanishes by a rename, or with the newest seal; and again
    what somebody has sealed meanwhile. What is left of folders goes now or with the next run.
    """
    run, record = StoredRun(paths), Path(paths.record)
    with told(f"delete {paths.files}"):
        while _is_there(run):
            while Path(paths.files).exists():
                with suppress(FileNotFoundError):  # somebody else removes it as well
                    shutil.rmtree(paths.files)
            for folder in run.retired_folders():
                _vanish(folder)
            if not run.is_whole:
                _vanish(record)
            _remove_seals(run)
            _vanish(record)
        for left in record.parent.glob(".*.deleted"):
            shutil.rmtree(left, ignore_errors=True)


def _is_there(run: StoredRun) -> bool:
    folders = (run.paths.files, run.paths.record)
    return any(map(os.path.lexists, folders)) or bool(run.seals() or run.retired_folders())


def _remove_seals(run: StoredRun) -> None:
    for name in os.listdir(run.paths.sealed) if Path(run.paths.sealed).is_dir() else ():
        if name.startswith(f".{run.paths.run_id}.") and name.endswith(DAMAGED):
            Path(run.paths.sealed, name).unlink(missing_ok=True)
    numbers = run.seals()
    if not numbers:
        return
    # Who makes an index meanwhile may have seen them, and removes the first mark.
    reopen(run.paths.owner, run.paths.run_id, time.time())
    for number in reversed(numbers):
        run.sealed_path(number).unlink(missing_ok=True)
    reopen(run.paths.owner, run.paths.run_id, time.time())


def _vanish(folder: Path) -> None:
    """A folder goes at once, by a rename; somebody else may have been first."""
    name = folder.name.removeprefix(".")
    with suppress(FileNotFoundError):
        folder.rename(folder.with_name(f".{name}.{os.urandom(4).hex()}.deleted"))


def _sizes(folder: str) -> Iterator[int]:
    for where, _, names in os.walk(folder, onerror=_gone):
        for name in names:
            with suppress(FileNotFoundError):
                yield Path(where, name).lstat().st_size


def _gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
