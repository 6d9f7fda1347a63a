"""The near half of a mirror: brings runs of another workspace, as they are there now.

    1  the records that are new there are laid aside, in `.mirror-<8 hex>/` of this user's folder
    2  run by run: journals as they are there, beside what was told of the run here, and from where
       they are; of a run that has ended, all of that is sealed
    3  sources come (`sources`), and files under their own names, each when it is whole

Nothing is deleted here for being gone there. Killed anywhere, what is here can be read, and the
next call goes on. Two at once on one host wait for each other; elsewhere they do no harm.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from hpcrun.durable import sync_folder
from hpcrun.errors import HpcrunError, StoreError
from hpcrun.faults import told as telling
from hpcrun.layout import Attempt, RunPaths, UserPaths
from hpcrun.manifest import Manifest
from hpcrun.record import Fact, encode
from hpcrun.rights import kept_to
from hpcrun.saying import say_on_stderr
from hpcrun.state import State
from hpcrun.store import FileStore
from hpcrun.store.publishing import replace
from hpcrun.store.sealing import remove_journals, seal, unseal
from hpcrun.transport.fetching import Files, tidy
from hpcrun.transport.rsync import Progress
from hpcrun.turns import alone
from hpcrun.workflow.code import digest_of
from hpcrun.workflow.inventory import FILE
from hpcrun.workflow.listing import index
from hpcrun.workflow.session import Session
from hpcrun.workflow.sources import bring_sources, lacking, told_sources
from hpcrun.workflow.stage import proven, stage
from hpcrun.workflow.telling import Told, ToldFile, ToldRun
from hpcrun.workflow.way import Way

STAGE = ".mirror-"
"""How the name of a folder begins in which records are laid aside."""

MARK = "mirror.jsonl"
"""The journal in a record that tells from where it is."""

NEW, NEWER, SAME, REFUSED, DELETED = "new", "newer", "same", "refused", "deleted here"

Ask = Callable[[Sequence[str]], str]
"""Asks the far half for the sources of runs, named `USER/RUN`; gives what it tells."""

_NONE = "-"
"""Of a run that has no source."""


class Here(NamedTuple):
    """What of a run is here: the versions of its record and of its files, and the digest of its
    source; empty: not yet."""

    record: str = ""
    files: str = ""
    source: str = ""


class Mirrored(NamedTuple):
    """What became of a run. outcome: one of the above. reason: why it was refused, or what of it
    did not come."""

    run: ToldRun
    outcome: str
    reason: str = ""

    def joined(self, other: Mirrored) -> Mirrored:
        """This, and what became of another part of the run."""
        is_news = other.outcome is NEWER and self.outcome is SAME
        reason = "; ".join(filter(None, (self.reason, other.reason)))
        return self._replace(outcome=NEWER if is_news else self.outcome, reason=reason)


class Mirror:
    """What of a site is mirrored in a workspace here. Make one with `opened`.

    known: what is here of each run. It also tells which runs were here once.
    """

    def __init__(self, session: Session, file: Path, known: dict[str, Here]) -> None:
        self._session = session
        self._store = session.store
        self._file = file
        self._known = known
        self._here = set(session.store.run_ids())

    def question(self, named: bool) -> dict[str, tuple[str, str]]:
        """What the far side is told is here. named: whether each run is asked for by its name, and
        comes back if it was deleted here."""
        return {
            run: (here.record, here.files)
            for run, here in self._known.items()
            if not named or run in self._here
        }

    def bring(
        self,
        told: Told,
        source: Files,
        named: bool,
        progress: Progress | None = None,
        ask: Ask | None = None,
    ) -> list[Mirrored]:
        """Brings what is told and not here. StoreError, TransportError: what has come by then
        stays. ask: None: sources stay there.
        """
        way = Way(source, progress)
        place = f"{source.name}:{told.workspace}"
        done = {run.run_id: self._first_look(run, named) for run in told.runs}
        try:
            for room, runs in _by_room([r for r in told.runs if done[r.run_id].outcome != DELETED]):
                own = self._store.prepare(room[1])
                with telling(f"mirror {place}"), kept_to(own.root):
                    for each in self._bring_records(room[0], runs, own, way, place):
                        done[each.run.run_id] = each
                    good = [r for r in runs if done[r.run_id].outcome != REFUSED]
                    for each in [
                        *(self._bring_sources(room[0], good, own, way, ask) if ask else ()),
                        *self._bring_files(room[0], good, own, way),
                    ]:
                        done[each.run.run_id] = done[each.run.run_id].joined(each)
        finally:
            self._keep()
        with self._store.history() as history:
            wanted = history.wants_index
        if wanted:
            index(self._session)
        return list(done.values())

    def _first_look(self, run: ToldRun, named: bool) -> Mirrored:
        is_deleted = run.run_id in self._known and run.run_id not in self._here
        return Mirrored(run, DELETED if is_deleted and not named else SAME)

    # -- records ------------------------------------------------------------------------------

    def _bring_records(
        self, room: str, runs: Sequence[ToldRun], own: UserPaths, way: Way, place: str
    ) -> Iterator[Mirrored]:
        for run in runs:
            if run.record is None and not run.ended:
                self._mark(Path(own.run(run.run_id).record), run, place)  # so it is still
        new = [run for run in runs if run.record is not None]
        if not new:
            return
        with stage(Path(own.root), STAGE) as folder:
            staged = FileStore(folder, self._store.user)
            Path(staged.own.active).mkdir(parents=True)
            files = [file for run in new for file in run.record or ()]
            into = Path(staged.own.root)
            said = way.fetch(room, files, into, folder / "apart", Path(own.root))
            for run in new:
                try:
                    _expect_whole(run.record or (), staged.own, said)
                    yield Mirrored(run, self._lay(run, staged, own, place))
                except HpcrunError as error:
                    yield Mirrored(run, REFUSED, error.message)

    def _lay(self, run: ToldRun, staged: FileStore, own: UserPaths, place: str) -> str:
        """Lays a record beside what is here of the run; gives whether it is new."""
        came, here = staged.own.run(run.run_id), own.run(run.run_id)
        run = run._replace(ended=proven(run.run_id, staged).state.is_end and run.ended)
        is_new = not self._store.has(run.run_id, self._store.user)
        with telling(f"lay the record of run {run.run_id}"):
            unseal(staged.stored(came))  # journals can stand beside those that are here
            if is_new:
                self._mark(Path(came.record), run, place)
                self._store.make_folders(here)
                Path(came.record).rename(here.record)
                sync_folder(Path(own.active))
            else:
                self._lay_over(run, came, here, place)
            stored = self._store.stored(here)
            if run.ended:
                seal(stored)
                remove_journals(stored, before=math.inf)
        files = self._known.get(run.run_id, Here()).files
        self._known[run.run_id] = Here(run.record_version, files)
        self._here.add(run.run_id)
        return NEW if is_new else NEWER

    def _lay_over(self, run: ToldRun, came: RunPaths, here: RunPaths, place: str) -> None:
        record = self._store.read(run.run_id)
        if self._store.paths(run.run_id) != here:
            raise StoreError("it is private here and not there, or there and not here")
        mirror = record.imported
        is_ours = mirror is not None and mirror.mirror
        if mirror is None or not is_ours or (mirror.workspace, mirror.user) != (place, run.user):
            message = f"there is a run of this name here, and it is no mirror of {place}"
            raise StoreError(message, "it stays as it is; -w FOLDER names another workspace")
        unseal(self._store.stored(here))
        self._mark(Path(here.record), run, place)
        names = {*os.listdir(came.record)} - {MARK}
        for name in sorted(names, key=lambda name: (name == "run.json", name)):
            Path(came.record, name).rename(Path(here.record, name))
        if FILE not in names:  # other files have come there since
            Path(here.record, FILE).unlink(missing_ok=True)
        sync_folder(Path(here.record))

    def _mark(self, record: Path, run: ToldRun, place: str) -> None:
        """Tells in a record from where it is, and how the run was just now."""
        now, attempt = time.time(), Attempt.parse(run.attempt)
        origin = {"user": run.user, "workspace": place, "left_out": 0, "mirror": True}
        facts = [Fact("imported", Attempt(1), now, 1, origin)]
        if not (run.ended or State(run.state).is_end):
            word = {"state": run.state, "raw": "", "reason": run.reason or None}
            data = {key: value for key, value in word.items() if value is not None}
            facts.append(Fact("scheduler", attempt, now, 2, data))
        with contextlib.suppress(FileNotFoundError):  # it is being deleted here
            replace(record / MARK, b"".join(map(encode, facts)))

    # -- sources ------------------------------------------------------------------------------

    def _bring_sources(
        self, room: str, runs: Sequence[ToldRun], own: UserPaths, way: Way, ask: Ask
    ) -> Iterator[Mirrored]:
        """Brings those that are not here. What cannot be had there is no reason to refuse a run."""
        wanted = {run: self._source_of(run.run_id) for run in runs}
        new = {d: run for run, d in wanted.items() if d and not Path(own.manifest(d)).exists()}
        manifests, failed = [], dict[str, HpcrunError]()
        if new:
            text = ask([f"{run.user}/{run.run_id}" for run in new.values()])
            for digest, found in zip(new, told_sources(list(new), text), strict=True):
                if isinstance(found, Manifest):
                    manifests.append(found)
                else:
                    failed[digest] = found
        lacks = lacking(manifests, own)
        progress = way.part(sum(entry.size for entry in lacks.values()))
        failed |= bring_sources(manifests, lacks, own, room, way.source, progress)
        for run, digest in wanted.items():
            error = failed.get(digest)
            if error is None and digest:
                self._known[run.run_id] = self._known[run.run_id]._replace(source=digest)
                yield Mirrored(run, NEWER if digest in new else SAME)
            elif error is not None:
                yield Mirrored(run, SAME, f"its source does not come: {error.message}")

    def _source_of(self, run_id: str) -> str:
        """The digest of a run's source that is not known to be here; empty: there is none."""
        if self._known[run_id].source:
            return ""
        digest = digest_of(self._store.read(run_id))
        if digest is None:
            self._known[run_id] = self._known[run_id]._replace(source=_NONE)
        return digest or ""

    # -- files --------------------------------------------------------------------------------

    def _bring_files(
        self, room: str, runs: Sequence[ToldRun], own: UserPaths, way: Way
    ) -> Iterator[Mirrored]:
        lacks = {
            run: [file for file in run.files if not _is_same(file, own)]
            for run in runs
            if run.files is not None
        }
        files = [file for found in lacks.values() for file in found]
        said: Sequence[str] = ()
        if files:
            apart = Path(own.mirrors, f"{way.source.name}.arriving")
            said = way.fetch(room, files, Path(own.root), apart)
            tidy(apart)
        for run, found in lacks.items():
            try:
                _expect_whole(found, own, said)
            except StoreError as error:
                yield Mirrored(run, SAME, error.message)
                continue
            self._known[run.run_id] = self._known[run.run_id]._replace(files=run.files_version)
            yield Mirrored(run, NEWER if found else SAME)

    def _keep(self) -> None:
        value = {"runs": self._known}
        with telling(f"write {self._file}"):
            replace(self._file, json.dumps(value).encode() + b"\n")


@contextlib.contextmanager
def opened(
    session: Session, site: str, say: Callable[[str], object] = say_on_stderr
) -> Iterator[Mirror]:
    """What of a site is mirrored here, for nobody else on this host meanwhile. say: hears that it
    is waited for. StoreError."""
    own = session.store.prepare()
    folder = Path(own.mirrors)
    with telling(f"prepare {folder}"), kept_to(own.root):
        folder.mkdir(exist_ok=True)
    with alone(folder / f"{site}.lock", say):
        file = folder / f"{site}.json"
        yield Mirror(session, file, _read(file))


def _read(file: Path) -> dict[str, Here]:
    """What is known; nothing, where it cannot be read: then all is told anew."""
    try:
        runs: Mapping[str, Sequence[str]] = json.loads(file.read_bytes())["runs"]
        return {run_id: Here(*map(str, here)) for run_id, here in runs.items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return {}


def _by_room(runs: Sequence[ToldRun]) -> Iterator[tuple[tuple[str, bool], list[ToldRun]]]:
    def room(run: ToldRun) -> tuple[str, bool]:
        return run.room, run.private

    for key, found in groupby(sorted(runs, key=room), key=room):
        yield key, list(found)


def _expect_whole(files: Sequence[ToldFile], own: UserPaths, said: Sequence[str]) -> None:
    """StoreError: one has not come. They may have grown since they were told."""
    for file in files:
        path = Path(own.root, file.path)
        if not path.is_file() or path.stat().st_size < file.size:
            why = next((line for line in said if file.path in line), "it changed meanwhile")
            raise StoreError(f"{file.path} has not come ({why})", "try again")


def _is_same(file: ToldFile, own: UserPaths) -> bool:
    try:
        found = Path(own.root, file.path).lstat()
    except OSError:
        return False
    return (found.st_size, found.st_mtime_ns) == (file.size, file.mtime)
