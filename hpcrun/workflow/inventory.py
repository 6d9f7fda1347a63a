"""The sizes and digests of a run's files, taken once when the run has ended.

They stand in files.json of its record. A digest counts as long as its file has the size and the
time that it had then; of any other file it is not known.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hpcrun.agent.copying import BLOCK
from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import RunPaths
from hpcrun.metrics.uploads import place_of
from hpcrun.record import RunRecord
from hpcrun.store import FileStore
from hpcrun.store.plain import open_plain
from hpcrun.store.sealing import unseal
from hpcrun.store.stored import StoredRun

FILE = "files.json"


class Taken(NamedTuple):
    """A file as it was found. mtime: nanoseconds. sha256: None if it could not be read."""

    size: int
    mtime: int
    sha256: str | None


Inventory = Mapping[str, Taken]
"""The files by name."""


def known(paths: RunPaths) -> Inventory | None:
    """What was taken; None if nothing was yet. StoreError."""
    text = StoredRun(paths).text(FILE)
    if text is None:
        return None
    try:
        return {name: Taken(*taken) for name, *taken in json.loads(text)["files"]}
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{paths.record}/{FILE} is damaged: {error}", "remove it") from error


def take(store: FileStore, record: RunRecord, names: Iterator[str]) -> Inventory:
    """Reads all files of a run that has ended, unless that was done. It may take long.

    StoreError: the run goes on, or is another's. names: of its files on disk.
    """
    paths = store.paths(record.run_id, record.user)
    found = known(paths)
    if found is not None:
        return found
    if record.user != store.user:
        raise StoreError(f"the digests of {record.user}'s run are not known yet", "ask them")
    if not record.has_ended:
        raise StoreError(f"run {record.run_id} is {record.state}", "its files may change yet")
    taken = {name: now for name in names if (now := look(paths, name)) is not None}
    value = {"taken": time.time(), "files": [[name, *each] for name, each in taken.items()]}
    with told(f"write {paths.record}/{FILE}"):
        aside = Path(paths.record, f".{FILE}.{os.urandom(4).hex()}")
        try:
            aside.parent.mkdir(exist_ok=True)  # of a sealed run nothing need lie there
            aside.write_text(json.dumps(value) + "\n", encoding="ascii")
            aside.rename(Path(paths.record, FILE))
        finally:
            aside.unlink(missing_ok=True)
    return taken


def forget(paths: RunPaths) -> None:
    """Other files have come: what was taken is not all any more."""
    if StoredRun(paths).text(FILE) is None:
        return
    unseal(StoredRun(paths))
    with told(f"remove {paths.record}/{FILE}"):
        Path(paths.record, FILE).unlink(missing_ok=True)


def look(paths: RunPaths, name: str) -> Taken | None:
    """A file as it is now; None if there is none."""
    path = Path(place_of(paths.files, name)).resolve()
    try:
        with open_plain(path) as file:
            before = os.fstat(file.fileno())
            digest = hashlib.sha256()
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
            after = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    except (OSError, StoreError):
        return _unread(path)
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return Taken(after.st_size, after.st_mtime_ns, digest.hexdigest() if same else None)


def _unread(path: Path) -> Taken | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return Taken(found.st_size, found.st_mtime_ns, None)


def differences(paths: RunPaths, taken: Inventory, names: Iterator[str]) -> Iterator[str]:
    """What is not as it was taken, a line each. Every file is read."""
    here = set(names)
    for name, then in sorted(taken.items()):
        now = look(paths, name) if name in here else None
        if now is None:
            yield f"missing: {name}"
        elif now.sha256 is None or (now.size, now.sha256) != (then.size, then.sha256):
            why = "cannot be read" if now.sha256 is None else "changed"
            yield f"{why}: {name}"
    for name in sorted(here - taken.keys()):
        yield f"new: {name}"
