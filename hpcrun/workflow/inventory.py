"""The sizes and digests of a run's files, taken once when the run has ended.

They stand in files.json of its record. A digest counts as long as its file has the size and the
time that it had then; of any other file it is not known. Sealing takes them with a limit: what
would have to be read beyond it has a size and a time, and its digest comes with the first check.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from hpcrun.agent.copying import BLOCK
from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.forms import array_of, is_count, is_int, is_text, or_none, tuple_of
from hpcrun.layout import RunPaths
from hpcrun.metrics.uploads import place_of
from hpcrun.record import RunRecord
from hpcrun.rights import kept_to
from hpcrun.store import FileStore
from hpcrun.store.plain import open_plain
from hpcrun.store.sealing import unseal
from hpcrun.store.stored import StoredRun
from hpcrun.workflow.again import expect_same

FILE = "files.json"

READ = 1 << 30
"""Bytes of a run's files that sealing reads for their digests, smallest files first."""

MOST = 100_000
"""Files of a run of which sealing takes anything: a line each has to go into the record."""

CLOSED = "closed (owner only)"
"""What is said of a file that this user may not read."""

Found = Iterable[tuple[str, os.stat_result]]
"""Names of files and their statuses."""


class Taken(NamedTuple):
    """A file as it was found. mtime: nanoseconds. sha256: None if it was not, or could not be,
    read."""

    size: int
    mtime: int
    sha256: str | None


Inventory = Mapping[str, Taken]
"""The files by name."""


class Comparison(NamedTuple):
    """What is not as it was taken, a line each; digests that nobody had taken before."""

    differences: list[str]
    learned: Inventory


def known(run: StoredRun) -> Inventory | None:
    """What was taken; None if nothing was yet. StoreError."""
    paths, text = run.paths, run.text(FILE)
    if text is None:
        return None
    try:
        files = json.loads(text)["files"]
    except (ValueError, TypeError, KeyError, RecursionError):
        files = None
    if not _are_taken(files):
        message = f"{paths.record}/{FILE} is damaged: it tells no files, their sizes and times"
        raise StoreError(message, "remove it")
    return {name: Taken(*taken) for name, *taken in files}


_are_taken = array_of(tuple_of(is_text, is_count, is_int, or_none(is_text)))


def take(store: FileStore, record: RunRecord, files: Found, limit: int | None = None) -> Inventory:
    """Reads all files of a run that has ended, unless that was done. It may take long.

    files: those on disk. limit: bytes to be read at most, smallest files first; then also not more
    than MOST files. StoreError: the run goes on, is another's, or has too many.
    """
    paths = store.paths(record.run_id, record.user)
    found = known(store.stored(paths))
    if found is not None:
        return found
    if record.user != store.user:
        raise StoreError(f"the digests of {record.user}'s run are not known yet", "ask them")
    if not record.has_ended:
        raise StoreError(f"run {record.run_id} is {record.state}", "its files may change yet")
    some = list(files if limit is None else islice(files, MOST + 1))
    if limit is not None and len(some) > MOST:
        raise StoreError(f"run {record.run_id} has more than {MOST} files")
    taken = {}
    left = limit
    for name, status in sorted(some, key=lambda file: (file[1].st_size, file[0])):
        if left is not None and status.st_size > left:
            taken[name] = Taken(status.st_size, status.st_mtime_ns, None)
        elif (now := look(paths, name)) is not None:
            taken[name] = now
            left = None if left is None else left - now.size
    keep(store, paths, taken)
    try:
        expect_same(record, store)
    except StoreError:
        forget(paths)
        raise
    return taken


def keep(store: FileStore, paths: RunPaths, taken: Inventory) -> None:
    """Writes what was taken into the record. StoreError."""
    files = [[name, *each] for name, each in sorted(taken.items())]
    value = {"taken": time.time(), "files": files}
    with told(f"write {paths.record}/{FILE}"), kept_to(paths.owner.root):
        aside = Path(paths.record, f".{FILE}.{os.urandom(4).hex()}")
        try:
            if store.stored(paths).seals():  # then nothing need lie there
                aside.parent.mkdir(exist_ok=True)
            aside.write_text(json.dumps(value) + "\n", encoding="ascii")
            aside.rename(Path(paths.record, FILE))
        finally:
            aside.unlink(missing_ok=True)


def forget(paths: RunPaths) -> None:
    """Other files have come: what was taken is not all any more."""
    if StoredRun(paths).text(FILE) is None:
        return
    with kept_to(paths.owner.root):
        unseal(StoredRun(paths))
    with told(f"remove {paths.record}/{FILE}"):
        Path(paths.record, FILE).unlink(missing_ok=True)


def look(
    paths: RunPaths, name: str, tell: Callable[[int], None] = lambda count: None
) -> Taken | None:
    """A file as it is now; None if there is none. tell: hears of the bytes that were read."""
    path = Path(place_of(paths.files, name)).resolve()
    try:
        with open_plain(path) as file:
            before = os.fstat(file.fileno())
            digest = hashlib.sha256()
            for block in iter(lambda: file.read(BLOCK), b""):
                digest.update(block)
                tell(len(block))
            after = os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    except (OSError, StoreError):
        return _unread(path)
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return Taken(after.st_size, after.st_mtime_ns, digest.hexdigest() if same else None)


def is_closed(paths: RunPaths, name: str) -> bool:
    """Whether a file is there, or may be, that its owner keeps to itself."""
    path = place_of(paths.files, name)
    try:
        os.lstat(path)
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(path, os.R_OK)


def _unread(path: Path) -> Taken | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return Taken(found.st_size, found.st_mtime_ns, None)


def compare(
    paths: RunPaths,
    taken: Inventory,
    files: Found,
    tell: Callable[[int], None] = lambda count: None,
) -> Comparison:
    """Reads every file, and compares it with what was taken."""
    here = {name for name, _ in files}
    lines, learned = [], {}
    for name, then in sorted(taken.items()):
        now = look(paths, name, tell) if name in here else None
        if (now is None or now.sha256 is None) and is_closed(paths, name):
            lines.append(f"{CLOSED}: {name}")
        elif now is None:
            lines.append(f"missing: {name}")
        elif now.sha256 is None:
            lines.append(f"cannot be read: {name}")
        elif then.sha256 is None and then[:2] == now[:2]:
            learned[name] = now
        elif (now.size, now.sha256) != (then.size, then.sha256):
            lines.append(f"changed: {name}")
    lines += [f"new: {name}" for name in sorted(here - taken.keys())]
    return Comparison(lines, learned)
