"""Checking a run history: everything that is wrong with it, found by reading alone."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from hpcrun.errors import HpcrunError, RunNotFound, StoreError
from hpcrun.layout import FORMAT, FORMATS, JOURNAL_SUFFIX, RUN_ID, UserPaths
from hpcrun.metrics import models
from hpcrun.store import FileStore
from hpcrun.store.formats import NewerFormat, expect_known
from hpcrun.store.hdf5 import BLOCK
from hpcrun.store.plain import files_in, folders_in, open_plain, read_plain
from hpcrun.store.policy import Policy, read_policy
from hpcrun.store.users import is_theirs
from hpcrun.workflow.care.examine import Examined, examine
from hpcrun.workflow.care.finding import Finding, Grade, Look, RemoveEmpty
from hpcrun.workflow.care.garbage import YOUNG, leftovers
from hpcrun.workflow.care.index import index_findings
from hpcrun.workflow.care.lines import BadLines, lines
from hpcrun.workflow.care.listed import ListedStore, RoomStore
from hpcrun.workflow.care.rights import rights, rights_of_workspace
from hpcrun.workflow.care.snapshots import LARGEST, Snapshots
from hpcrun.workflow.care.walk import walk
from hpcrun.workflow.session import Session

FOREIGN = 1 << 29
"""Bytes of one file of somebody else's that are read at most."""

WHAT_FAILS = (ValueError, LookupError, TypeError, AttributeError, RecursionError, MemoryError)
"""What reading files may come to that somebody has made up."""


class Progress(Protocol):
    """Hears how far a check of a room is."""

    def runs(self, done: int, of: int) -> None: ...

    def read(self, count: int) -> None: ...


class Silent:
    """Nobody hears it."""

    def runs(self, done: int, of: int) -> None:
        """So many runs of all are done."""

    def read(self, count: int) -> None:
        """So many bytes more were read."""


class Asked(NamedTuple):
    """What is checked: a user's whole history, or those of their runs."""

    user: str
    run_ids: Sequence[str] | None = None


def check(
    session: Session, asked: Asked, digests: bool = False, progress: Progress | None = None
) -> Iterator[Finding]:
    """All findings, in the order in which they are found. StoreError: nothing can be read.

    Only of this user's own runs digests may be added that were not known (see `inventory`).
    """
    progress = progress or Silent()
    own = asked.user == session.user
    look = Look(digests, None if own else FOREIGN)
    rooms = session.store.rooms(asked.user)
    if not os.path.lexists(rooms[0].root):
        if not own:
            raise RunNotFound(f"there is no user {asked.user!r} in {session.workspace}")
        return
    for room in rooms:
        if not is_theirs(Path(room.root)):
            raise StoreError(f"{room.root} does not belong to {asked.user}", "readers ignore it")
    if asked.run_ids is None:
        yield from _of_workspace(session.workspace)
    for room in rooms:
        yield from _of_room(session, room, asked, look, progress)


def _policy(workspace: Path) -> Policy:
    """The workspace's; one that is damaged is told of elsewhere, and asks for nothing."""
    try:
        return read_policy(workspace)
    except StoreError:
        return Policy()


def _of_room(
    session: Session, of: UserPaths, asked: Asked, look: Look, progress: Progress
) -> Iterator[Finding]:
    """All findings in one of a user's rooms."""
    store = ListedStore(session.workspace, session.user, of)
    everything = asked.run_ids is None
    if everything:
        yield from _guarded("rights", of.root, rights(of, _policy(session.workspace)))
        yield from _guarded("record", of.root, _strange_names(store))
        yield from _guarded("journal", of.experiments, _journals_of_experiments(of, look))
        yield from _guarded("model", of.models, _models(of, look))
    ids = [i for i in store.all_ids() if asked.run_ids is None or i in asked.run_ids]
    snapshots = Snapshots(of, look, progress.read)
    for done, run_id in enumerate(ids):
        progress.runs(done, len(ids))
        found = _examined(store, asked.user, run_id, look, progress.read)
        yield from found.findings
        if found.digest is not None:
            yield from snapshots.findings(found.digest, run_id)
    progress.runs(len(ids), len(ids))
    if everything:
        newest = {run_id: max(numbers) for run_id, numbers in store.numbers.items()}
        yield from _guarded("index", of.indexes, index_findings(of, newest, look.limit))
        yield from _guarded("orphan", of.files, _orphans(store))
        yield from _guarded("leftover", of.root, _leftovers(of))


def _guarded(subject: str, path: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Findings; where looking fails, that is one."""
    try:
        yield from findings
    except (HpcrunError, OSError, *WHAT_FAILS) as error:
        message, cure = f"cannot be looked at to the end: {error}", "look into it"
        yield Finding(Grade.WRONG, subject, path, message, cure)


def _examined(
    listed: ListedStore, user: str, run_id: str, look: Look, tell: Callable[[int], None]
) -> Examined:
    """A run as it was listed; if that seems wrong, as it lies now: it may just have been sealed."""
    found = _tried(listed, user, run_id, look, tell)
    if any(finding.grade is Grade.WRONG for finding in found.findings):
        store = RoomStore(listed.workspace, listed.user, listed.of)
        is_kept = store.stored(store.paths(run_id, user)).retired_folders()
        if not is_kept and not store.has(run_id, user):
            return Examined([])  # it was deleted meanwhile
        found = _tried(store, user, run_id, look, tell)
    return found


def _tried(
    store: FileStore, user: str, run_id: str, look: Look, tell: Callable[[int], None]
) -> Examined:
    paths = store.paths(run_id, user)
    try:
        return examine(store, paths, user, look, tell)
    except (HpcrunError, OSError, *WHAT_FAILS) as error:
        why = error.message if isinstance(error, HpcrunError) else repr(error)
        message, cure = f"cannot be examined: {why}", "look into it; a backup may have it whole"
        return Examined([Finding(Grade.WRONG, "record", paths.record, message, cure, None, run_id)])


# -- what is no run -------------------------------------------------------------------------------


def _of_workspace(workspace: Path) -> Iterator[Finding]:
    settings = workspace / "workspace.json"
    try:
        told = json.loads(read_plain(settings))
        expect_known("it", told.get("format"), FORMATS, told.get("hpcrun"))
    except NewerFormat as error:
        yield Finding(Grade.WRONG, "workspace", str(settings), error.message, error.hint)
    except (StoreError, ValueError, AttributeError, RecursionError) as error:
        cure = f'restore it from a copy, or write {{"format": {FORMAT}}} into it'
        yield Finding(Grade.WRONG, "workspace", str(settings), f"cannot be read: {error}", cure)
    yield from rights_of_workspace(workspace)


def _strange_names(store: ListedStore) -> Iterator[Finding]:
    """What lies where readers do not look for it."""
    for path in store.misplaced:
        message = "lies in a month that is not the one in its run's id; readers do not find it"
        yield Finding(Grade.WRONG, "sealed file", str(path), message, "move it to its month")
    for month in folders_in(store.of.runs):
        folder = Path(store.of.runs, month)
        for name in sorted(set(os.listdir(folder)) - set(files_in(folder))):
            message = "is a link, a pipe, a folder or the like; readers ignore it"
            yield Finding(Grade.NOTE, "sealed file", str(folder / name), message)
    names = [n for n in folders_in(store.of.active) if not n.startswith(".")]
    for name in (n for n in names if not RUN_ID.match(n)):
        place = f"{store.of.active}/{name}"
        yield Finding(Grade.NOTE, "record", place, "is no run's: its name is no id of one")
    for where in (store.of.active, store.of.runs):
        if Path(where).is_symlink():
            message = "is a link; readers do not follow it"
            yield Finding(Grade.WRONG, "record", where, message, "put the folder in its place")


def _journals_of_experiments(own: UserPaths, look: Look) -> Iterator[Finding]:
    for name in folders_in(own.experiments):
        for file in files_in(f"{own.experiments}/{name}"):
            path, bad = Path(own.experiments, name, file), BadLines()
            if not file.endswith(JOURNAL_SUFFIX):
                continue
            try:
                with open_plain(path) as opened:
                    for line in lines(opened, look.limit):
                        bad = bad.with_line(line)
            except (OSError, StoreError) as error:
                message = f"cannot be read: {error}"
                yield Finding(Grade.WRONG, "journal", str(path), message, "look into it")
            if bad.garbled:
                message = f"{bad.garbled} lines are garbled or foreign"
                cure = "tag or archive the experiment again"
                yield Finding(Grade.WRONG, "journal", str(path), message, cure)


def _models(own: UserPaths, look: Look) -> Iterator[Finding]:
    for name in folders_in(own.models):
        for version in (v for v in folders_in(f"{own.models}/{name}") if v.isdecimal()):
            folder = Path(own.models, name, version)
            try:
                wrong = list(_of_model(folder, look))
            except (StoreError, OSError, *WHAT_FAILS) as error:
                wrong = [f"cannot be read: {error}"]
            if wrong:
                cure = "a backup may have it; the run that made it may still have the files"
                yield Finding(Grade.WRONG, "model", str(folder), "; ".join(wrong[:3]), cure)


def _of_model(folder: Path, look: Look) -> Iterator[str]:
    """What is wrong with the files of a version of a model."""
    told = folder / models.RECORD
    if told.lstat().st_size > LARGEST:
        raise StoreError(f"{told} has more than {LARGEST} bytes")
    for file in models.record_in(read_plain(told), str(folder)).files:
        path = folder / models.CONTENT / file.name
        found = path.lstat() if os.path.lexists(path) else None
        if found is None or not stat.S_ISREG(found.st_mode):
            yield f"{file.name} is missing"
        elif found.st_size != file.size:
            yield f"{file.name} has {found.st_size} bytes of {file.size}"
        elif look.digests and not look.is_too_long(found.st_size) and _sha256(path) != file.sha256:
            yield f"{file.name} is another"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_plain(path) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _orphans(store: ListedStore) -> Iterator[Finding]:
    """Folders of files whose run has no record: whether they are wanted only a person knows."""
    known = set(store.all_ids())
    for month in folders_in(store.of.files):
        for name in folders_in(f"{store.of.files}/{month}"):
            path = f"{store.of.files}/{month}/{name}"
            try:
                is_young = os.lstat(path).st_mtime > time.time() - YOUNG
            except FileNotFoundError:
                continue
            if name in known or is_young:
                continue
            files = sum(not entry.is_folder for entry in walk(path))
            if files:
                message = f"{files} files of a run that has no record"
                cure = f"look at them, then remove them: rm -r {path}"
                yield Finding(Grade.WRONG, "orphan", path, message, cure)
            else:
                message = "the empty folders of a run that has no record"
                cure = "hpcrun store check --mend removes them"
                yield Finding(Grade.WRONG, "orphan", path, message, cure, RemoveEmpty())


def _leftovers(own: UserPaths) -> Iterator[Finding]:
    found = leftovers(own, time.time())
    if found:
        size = sum(each.bytes for each in found)
        message = f"{len(found)} leftovers of processes that were killed, {size} bytes"
        yield Finding(Grade.NOTE, "leftover", own.root, message, "hpcrun store gc removes them")
