"""What a run takes up on disk, and removing it for good."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hpcrun.faults import told
from hpcrun.layout import RunPaths


def taken_up(paths: RunPaths) -> tuple[int, int]:
    """(files, bytes) of a run's record and files. Symbolic links count, what they name does not."""
    with told(f"read {paths.files}"):
        sizes = [*_sizes(paths.record), *_sizes(paths.files)]
    return len(sizes), sum(sizes)


def remove(paths: RunPaths) -> None:
    """Removes a run. Killed on the way, it is still there and can be removed again, or gone.

    Its files go first; the record then vanishes by a rename, and what is left of it is removed
    now or with the next run that is.
    """
    with told(f"delete {paths.files}"):
        if Path(paths.files).exists():
            shutil.rmtree(paths.files)
        record = Path(paths.record)
        aside = record.with_name(f".{record.name}.deleted")
        if record.exists():
            record.rename(aside)
        for left in record.parent.glob(".*.deleted"):
            shutil.rmtree(left, ignore_errors=True)


def _sizes(folder: str) -> Iterator[int]:
    for where, _, names in os.walk(folder, onerror=_gone):
        for name in names:
            yield Path(where, name).lstat().st_size


def _gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
