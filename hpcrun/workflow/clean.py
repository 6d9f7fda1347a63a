"""Removing a finished run's copy of its source: the files that the snapshot holds byte for byte."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.manifest import Entry
from hpcrun.metrics.uploads import FOLDERS, UPLOADS
from hpcrun.record import RunRecord
from hpcrun.workflow.again import expect_same
from hpcrun.workflow.code import code_of
from hpcrun.workflow.session import Session


def clean(session: Session, record: RunRecord) -> tuple[int, int]:
    """(files removed, bytes freed). StoreError while the run has not ended. ForeignRun."""
    session.store.expect_own(record.run_id, record.user)
    if not record.state.is_end:
        raise StoreError(f"run {record.run_id} is {record.state}", "clean it when it has ended")
    if "snapshot" not in record.request:
        raise StoreError(f"run {record.run_id} has no snapshot", "there is no copy of its source")
    root = Path(session.store.paths(record.run_id).files)
    manifest = code_of(session.workspace, record).manifest
    with told(f"clean {root}"):
        same = [entry for entry in manifest.files if _same(root / entry.path, entry)]
        expect_same(record, session.store)  # that took a while, and the next attempt works there
        for entry in same:
            (root / entry.path).unlink()
        _remove_empty(root, {Path(entry.path).parent for entry in manifest.files})
    return len(same), sum(entry.size for entry in same)


def left_outside(session: Session, record: RunRecord) -> list[str]:
    """The names of the files that the run left outside of outputs/ and logs/, sorted.

    Those that the snapshot holds byte for byte count as its source, as long as they are there.
    """
    root = Path(session.store.paths(record.run_id, record.user).files)
    source: dict[str, Entry] = {}
    if "snapshot" in record.request:
        source = {entry.path: entry for entry in code_of(session.workspace, record).manifest.files}
    found = []
    for where, folders, names in os.walk(root):
        if where == str(root):
            folders[:] = [name for name in folders if name not in (*FOLDERS, UPLOADS)]
        for name in names:
            path = Path(where, name)
            entry = source.get(path.relative_to(root).as_posix())
            if path.is_symlink() or (entry is not None and _same(path, entry)):
                continue
            found.append(path.relative_to(root).as_posix())
    return sorted(found)


def _same(path: Path, entry: Entry) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != entry.size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256


def _remove_empty(root: Path, folders: set[Path]) -> None:
    every = {parent for folder in folders for parent in (folder, *folder.parents)} - {Path()}
    for folder in sorted(every, key=lambda f: len(f.parts), reverse=True):
        path = root / folder
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
