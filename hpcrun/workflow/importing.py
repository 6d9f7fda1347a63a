"""Taking in an export, which anybody may have made.

    1  all of it is laid aside, in `.import-<8 hex>/` of this user's folder: a workspace of its own
    2  it is proved: digests, records, links, sources; what is wrong with it refuses all of it
    3  each record is sealed once more, with the fact that it was imported
    4  run by run: the source, then the files, then the record, each by taking a name that is free

Killed anywhere, a run is there with all of it, or not yet; the next call goes on.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from hpcrun.durable import sync_folder
from hpcrun.errors import HpcrunError, StoreError
from hpcrun.faults import told
from hpcrun.layout import RunPaths
from hpcrun.manifest import Manifest, shown_size
from hpcrun.rights import kept_to
from hpcrun.snapshot import read_manifest
from hpcrun.snapshot.push import wanted
from hpcrun.store import FileStore
from hpcrun.store.bundle import (
    KEPT,
    Bundle,
    LinkMember,
    Member,
    Refused,
    RunEntry,
    object_path,
)
from hpcrun.store.content import Content, tells
from hpcrun.store.hdf5 import check, whole
from hpcrun.store.holes import survey
from hpcrun.store.index import reopen
from hpcrun.store.packing import Unpacking
from hpcrun.store.plain import open_plain
from hpcrun.store.publishing import take_name
from hpcrun.store.sealed import KIND, open_sealed
from hpcrun.store.sealing import seal
from hpcrun.store.stored import StoredRun
from hpcrun.workflow.listing import index
from hpcrun.workflow.seal import LARGEST
from hpcrun.workflow.session import Session
from hpcrun.workflow.stage import expect_of, proven, stage

STAGE = ".import-"
"""How the name of a folder begins in which an export is laid aside."""

LARGEST_RECORD = 4 * LARGEST
"""Bytes of a record as it is read: what hpcrun itself seals has fewer."""


class Taken(NamedTuple):
    """What became of a run of an export. user: whose it was. is_new: whether it came.

    reason: why it was refused; empty if it is here now.
    """

    run_id: str
    user: str
    is_new: bool
    reason: str = ""


def take_in(session: Session, path: Path) -> list[Taken]:
    """Takes the runs of an export in as this user's. StoreError: it is refused as a whole."""
    store = session.store
    with Unpacking(path) as export:
        store.prepare()
        own = Path(store.own.root)
        with told(f"take in {path}"), kept_to(str(own)), stage(own, STAGE) as folder:
            importing = _Importing(session, export.bundle, FileStore(folder, store.user), str(path))
            importing.expect_room()
            export.unpack(importing.place)
            importing.prove()
            taken = [importing.take(run) for run in export.bundle.runs]
    with store.history() as history:
        wanted = history.wants_index
    if wanted:
        index(session)
    return taken


class _Importing:
    """An export on its way. staged: the workspace in which it is laid aside."""

    def __init__(self, session: Session, bundle: Bundle, staged: FileStore, named: str) -> None:
        self._session = session
        self._store = session.store
        self._bundle = bundle
        self._staged = staged
        self._named = named
        self._known = {run.run_id: self._user_of(run.run_id) for run in bundle.runs}
        self._unread = tuple(
            f"{run.files}/" for run in bundle.runs if self._known[run.run_id] is not None
        )

    def _user_of(self, run_id: str) -> str | None:
        """Whose run of that id is here already."""
        for user in (self._store.user, *self._store.users()):
            with contextlib.suppress(StoreError):  # others may keep theirs to themselves
                if self._store.has(run_id, user):
                    return user
        return None

    def expect_room(self) -> None:
        """StoreError where the disk has no room for what the export tells to hold."""
        wanted = sum(m.stored for m in self._bundle.files if self.place(m) is not None)
        free = shutil.disk_usage(self._store.own.root).free
        if wanted > free:
            raise StoreError(
                f"{self._named} holds {shown_size(wanted)}, and {shown_size(free)} are free",
                "free space, or choose another workspace",
            )

    def place(self, member: Member) -> Path | None:
        """Where a member is laid; None of the files of a run that is here already."""
        if member.path.startswith(self._unread):
            return None
        return Path(self._staged.own.root, member.path)

    # -- proving ------------------------------------------------------------------------------

    def prove(self) -> None:
        """Refused: something in it is not what it should be."""
        for run in self._bundle.runs:
            try:
                self._prove_record(run)
                if run.snapshot is not None:
                    self._prove_code(run.snapshot)
            except HpcrunError as error:
                message = error.message.replace(f"{self._staged.workspace}/", "")
                raise Refused(f"{self._named} is refused: {run.run_id}: {message}") from error
            if self._known[run.run_id] is None:
                self._lay_links(run)

    def _prove_record(self, run: RunEntry) -> None:
        path = self._staged_run(run).sealed_path(0)
        check(path, KIND)
        with open_sealed(path) as sealed, whole(path):
            if sealed.expanded > LARGEST_RECORD:
                raise StoreError(f"its record would take {shown_size(sealed.expanded)} to read")
            expect_of(run.run_id, sealed.run_id)
            sealed.content()
        record = proven(run.run_id, self._staged)
        if not record.state.is_end:
            raise StoreError(f"it was {record.state} when it was exported")

    def _prove_code(self, digest: str) -> None:
        manifest = read_manifest(self._staged.own, digest)
        held = {member.path: member.size for member in self._bundle.files}
        for entry in manifest.files:
            if held.get(object_path(entry.sha256)) != entry.size:
                raise StoreError(f"its source lacks the content of {entry.path!r}")

    def _lay_links(self, run: RunEntry) -> None:
        """Makes the links of a run; all files are there by now."""
        root = Path(self._paths(run).files)
        for folder in KEPT[:-1]:  # as a run of this workspace has them from its beginning
            (root / folder).mkdir(parents=True, exist_ok=True)
        links = [m for m in self._bundle.by_run[run.run_id] if isinstance(m, LinkMember)]
        for link in links:
            path = Path(self._staged.own.root, link.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(link.target)
        for link in links:
            if not _leads_below(Path(self._staged.own.root, link.path), root):
                raise Refused(
                    f"{self._named} is refused: its link {link.path!r} leads to nothing of the run"
                )

    # -- taking -------------------------------------------------------------------------------

    def take(self, run: RunEntry) -> Taken:
        """Makes a run this user's, unless it is here already."""
        user = self._known[run.run_id]
        try:
            if user is not None:
                self._expect_same(run, user)
                reopen(self._store.own, run.run_id, time.time())  # a killed import may not have
                return Taken(run.run_id, run.user, False)
            self._seal(run)
            self._publish(run)
        except HpcrunError as error:
            return Taken(run.run_id, run.user, False, error.message)
        return Taken(run.run_id, run.user, True)

    def _expect_same(self, run: RunEntry, user: str) -> None:
        """StoreError where the run that is here lacks something of this one."""
        paths = self._store.paths(run.run_id, user)
        whose = "there is such a run" if user == self._store.user else f"{user} has such a run"
        here, came = self._store.stored(paths).content(), self._staged_run(run).content()
        if not _holds(here, came):
            raise StoreError(f"{whose}, with another record", "delete it to take in this one")
        self._expect_files(run, paths, whose)

    def _expect_files(self, run: RunEntry, paths: RunPaths, whose: str) -> None:
        for member in self._bundle.by_run[run.run_id]:
            path = Path(paths.files, member.path.removeprefix(f"{run.files}/"))
            if not _is_same(path, member):
                raise StoreError(f"{whose}, with another {path.relative_to(paths.files)}")

    def _seal(self, run: RunEntry) -> None:
        """Adds where it came from to its record, in the stage."""
        attempt = self._staged.read(run.run_id).attempt.attempt
        data = {"user": run.user, "workspace": run.workspace, "left_out": run.left_out}
        Path(self._staged.own.active).mkdir(exist_ok=True)
        self._staged.append(self._paths(run), attempt, "imported", data)
        seal(self._staged_run(run))

    def _publish(self, run: RunEntry) -> None:
        own, target = self._store.own, self._store.paths(run.run_id)
        with told(f"take in run {run.run_id}"):
            if run.snapshot is not None and wanted(own.manifest(run.snapshot)) is None:
                self._publish_code(read_manifest(self._staged.own, run.snapshot))
            if os.path.lexists(target.files):  # as an import leaves them that is killed just then
                self._expect_only(run, target)
                self._expect_files(run, target, "its files are here without a record")
            else:
                _move(Path(self._paths(run).files), Path(target.files))
            stored = self._staged_run(run)
            path = self._store.stored(target).sealed_path(0)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Before and after: who makes an index meanwhile removes the first mark.
            reopen(own, run.run_id, time.time())
            if not take_name(stored.sealed_path(stored.seals()[0]), path):
                raise StoreError("somebody else has just taken it in")
            sync_folder(path.parent)
            reopen(own, run.run_id, time.time())

    def _expect_only(self, run: RunEntry, target: RunPaths) -> None:
        known = {member.path for member in self._bundle.by_run[run.run_id]}
        for where, _, names in os.walk(target.files):
            for path in (Path(where, name).relative_to(target.owner.root) for name in names):
                if path.as_posix() not in known:
                    raise StoreError(f"its files are here without a record, and {path} besides")

    def _publish_code(self, manifest: Manifest) -> None:
        own, target = self._store.own, self._store.own.manifest(manifest.digest)
        paths = [object_path(entry.sha256) for entry in manifest.files]
        for path in (*dict.fromkeys(paths), posixpath.relpath(target, own.root)):
            staged, published = Path(self._staged.own.root, path), Path(own.root, path)
            if wanted(str(published)) is None:
                staged.chmod(0o444)
                os.utime(staged)  # what is young is not collected
                _move(staged, published)

    def _paths(self, run: RunEntry) -> RunPaths:
        return self._staged.paths(run.run_id)

    def _staged_run(self, run: RunEntry) -> StoredRun:
        return self._staged.stored(self._paths(run))


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    sync_folder(target.parent)


def _holds(here: Content, came: Content) -> bool:
    """Whether a record tells all that another one does. Journals grow, by what is told later."""
    texts = {**here.texts, **here.artifacts}
    told_here = all(
        texts.get(name, b"").startswith(data) and name in texts
        for name, data in {**came.texts, **came.artifacts}.items()
    )
    return told_here and tells(here.metric_facts, came.metric_facts)


def _is_same(path: Path, member: Member | LinkMember) -> bool:
    try:
        if isinstance(member, LinkMember):
            return path.is_symlink() and path.readlink() == Path(member.target)
        with open_plain(path.resolve()) as file:
            found = survey(file.fileno())
    except (OSError, StoreError):
        return False
    return (found.size, found.sha256) == (member.size, member.sha256)


def _leads_below(link: Path, root: Path) -> bool:
    try:
        place = link.resolve(strict=True).relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
        return False
    return place.parts[:1] != () and place.parts[0] in KEPT
