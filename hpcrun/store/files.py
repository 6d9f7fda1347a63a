"""The run history as files: one folder per user, one folder per live run, one writer per file."""

from __future__ import annotations

import errno
import heapq
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hpcrun.durable import sync_folder, write_new
from hpcrun.errors import ForeignRun, StoreError
from hpcrun.faults import told
from hpcrun.fold import fold
from hpcrun.journal import Journal
from hpcrun.kinds import REQUEST
from hpcrun.layout import (
    FORMATS,
    JOURNAL_SUFFIX,
    RUN_ID,
    SUFFIX_OF_KIND,
    Attempt,
    JournalKind,
    RunPaths,
    UserPaths,
)
from hpcrun.record import Fact, RunRecord
from hpcrun.rights import kept_to
from hpcrun.store.formats import expect_known
from hpcrun.store.layers import Logged
from hpcrun.store.plain import folders_in, object_in
from hpcrun.store.policy import read_policy
from hpcrun.store.publishing import replace, take_name
from hpcrun.store.rows import Row, newest_first
from hpcrun.store.stored import StoredRun
from hpcrun.store.users import is_theirs, owner
from hpcrun.store.workspace import prepare

if TYPE_CHECKING:
    from hpcrun.metrics import Metric
    from hpcrun.metrics.summary import Summary
    from hpcrun.store.history import History

Value = TypeVar("Value")

JUST_NOW = 60.0
"""Seconds for which an end may have been told while its record was read."""


class FileStore:
    """A workspace as one user sees it. Nothing is opened before it is asked for."""

    def __init__(self, workspace: Path, user: str) -> None:
        self.workspace = workspace
        self.user = user
        self._is_known = False

    @property
    def own(self) -> UserPaths:
        """This user's folders."""
        return UserPaths.of(str(self.workspace), self.user)

    def rooms(self, user: str | None = None) -> list[UserPaths]:
        """Where runs of a user lie that may be seen from here: one's own private ones as well."""
        own = UserPaths.of(str(self.workspace), user or self.user)
        is_own = user in (None, self.user) and owner(Path(own.private.root)) is not None
        return [own, own.private] if is_own else [own]

    # -- writing ------------------------------------------------------------------------------

    def prepare(self, private: bool = False) -> UserPaths:
        """Makes the workspace and this user's folders, where they are missing.

        private: also those that nobody else may see; these are given then.
        """
        return prepare(self.workspace, self.own, private)

    def _expect_format(self) -> None:
        """NewerFormat where a later hpcrun has laid this workspace out in its own way."""
        if not self._is_known:
            read_policy(self.workspace)
            self._is_known = True

    def create(self, request: Mapping[str, Any], script: str) -> RunPaths:
        """Writes the intent: run.json and script.sh, aside and then renamed into place."""
        run_id = request["run_id"]
        own = self.own.private if request.get("private") else self.own
        paths = own.run(run_id)
        known = [room.run(run_id) for room in self.rooms()]
        if any(os.path.lexists(run.record) or self.stored(run).seals() for run in known):
            raise StoreError(f"there is a run {run_id} already")
        with told(f"write the record of run {run_id}"), kept_to(own.root):
            aside = Path(own.active, f".{run_id}.{os.urandom(4).hex()}")
            try:
                aside.mkdir()
                write_new(aside / "run.json", _json(request))
                write_new(aside / "script.sh", script.encode("utf-8", "surrogateescape"))
                sync_folder(aside)
                _take_name(aside, Path(paths.record))
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
            try:
                sync_folder(Path(own.active))
                _make_folders(paths)
            except OSError:
                self.discard(run_id)
                raise
        return paths

    def make_folders(self, paths: RunPaths) -> None:
        """The folders of a run's files, as far as they are missing: whoever created it may have
        been killed before."""
        with told(f"make the folders of run {paths.run_id}"), kept_to(paths.owner.root):
            _make_folders(paths)

    def hides(self, path: Path) -> bool:
        """Whether a path leads into a private run of this user's."""
        return path.resolve().is_relative_to(Path(self.own.private.root).resolve())

    def expect_own(self, run_id: str, user: str, hint: str = "only they can change it") -> None:
        """ForeignRun if a run is not this user's. hint: what to do then."""
        if user != self.user:
            raise ForeignRun(f"run {run_id} is {user}'s", hint)

    def discard(self, run_id: str) -> None:
        """Removes a run that was never handed to the scheduler, as far as that can be done."""
        paths = self.paths(run_id)
        shutil.rmtree(paths.record, ignore_errors=True)
        shutil.rmtree(paths.files, ignore_errors=True)

    def claim(self, paths: RunPaths, submission: int, owner: str) -> str:
        """Claims a submission, as its job does before user code; gives whose claim stands."""
        claim = Path(paths.claim(submission))
        aside = claim.with_name(f"{claim.name}.{os.urandom(4).hex()}")
        with told(f"claim a submission in {paths.record}"), kept_to(paths.owner.root):
            try:
                write_new(aside, f"{owner}\n".encode())
                take_name(aside, claim)
            finally:
                aside.unlink(missing_ok=True)
            sync_folder(Path(paths.record))
            return claim.read_text(encoding="utf-8").strip()

    def supersede(self, paths: RunPaths, submission: int) -> None:
        """Takes a submission's claim from its job: should that job come back, it ends at once."""
        with told(f"claim a submission in {paths.record}"), kept_to(paths.owner.root):
            text = f"submission {submission + 1}\n"
            replace(Path(paths.claim(submission)), text.encode())

    def journal(self, record: RunPaths, attempt: Attempt, suffix: str = JOURNAL_SUFFIX) -> Journal:
        """A journal of this process's own in a run's record."""
        # Facts of one millisecond stand in the order of their writers' names.
        moment = f"{time.time_ns():x}-{os.urandom(3).hex()}"
        writer = f"client-{os.uname().nodename}-{os.getpid()}-{moment}"
        return Journal(f"{record.record}/{writer}{suffix}", attempt)

    def append(self, paths: RunPaths, attempt: Attempt, kind: str, data: Mapping[str, Any]) -> None:
        """Writes one fact of this client, and waits until the file system has it."""
        with told(f"write to the record {paths.record}"), kept_to(paths.owner.root):
            journal = self.journal(paths, attempt, SUFFIX_OF_KIND.get(kind, JOURNAL_SUFFIX))
            try:
                self._append(journal, kind, data)
            finally:
                journal.close()
            self.stored(paths).expect_seen(Path(journal.path).name)

    def _append(self, journal: Journal, kind: str, data: Mapping[str, Any]) -> None:
        try:
            journal.append(kind, data, sync=True)
        except FileNotFoundError:
            # What is told of a sealed run stands beside it, until the next seal.
            record = Path(journal.path).parent
            if not RUN_ID.match(record.name) or not self.stored(self.paths(record.name)).seals():
                raise
            record.mkdir(exist_ok=True)
            journal.append(kind, data, sync=True)

    # -- reading ------------------------------------------------------------------------------

    def users(self) -> list[str]:
        """The users with a folder here; one whose folder belongs to someone else is left out."""
        try:
            names = sorted(os.listdir(self.workspace / "users"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"cannot read {self.workspace}: {error.strerror}") from error
        return [name for name in names if is_theirs(self.workspace / "users" / name)]

    def run_ids(self, user: str | None = None) -> list[str]:
        """The ids of a user's runs (default: this user's), newest first."""
        ids = self.through_history(user, None, lambda history: history.run_ids())
        return ids[0] if len(ids) == 1 else list(heapq.merge(*ids, key=newest_first))

    def through_history(
        self, user: str | None, cache: Path | None, read: Callable[[History], Value]
    ) -> list[Value]:
        """What is read of each of a user's histories as it lies here now; StoreError.

        Of one's own there are two where runs are private. cache: where this reader may have an
        index of its own.
        """
        return [self._through(own, cache, read) for own in self.rooms(user)]

    def _through(
        self, own: UserPaths, cache: Path | None, read: Callable[[History], Value]
    ) -> Value:
        from hpcrun.store.hdf5 import Damaged
        from hpcrun.store.history import History

        self._expect_format()
        try:
            with History(own, cache) as history:
                return read(history)
        except Damaged:
            with History(own, indexed=False) as history:
                return read(history)

    def history(
        self, user: str | None = None, cache: Path | None = None, indexed: bool = True
    ) -> History:
        """A user's runs that others may see; see `History`."""
        from hpcrun.store.history import History

        self._expect_format()
        return History(UserPaths.of(str(self.workspace), user or self.user), cache, indexed)

    def row(self, run_id: str, user: str | None = None, number: int = 0) -> Row:
        """What a listing needs of a run. number: of its sealed file."""
        numbers = self.stored(self.paths(run_id, user)).numbers()
        return Row(self.read(run_id, user), number, numbers)

    def active_ids(self, user: str | None = None) -> list[str]:
        """The ids of a user's runs that are not sealed, or of which something is told since."""
        names: list[str] = []
        for own in self.rooms(user):
            with told(f"read {own.active}"):
                names += folders_in(own.active) if is_theirs(Path(own.root)) else []
        return [name for name in names if RUN_ID.match(name)]

    def has(self, run_id: str, user: str) -> bool:
        """Whether a user has a run of that id."""
        if RUN_ID.match(run_id) is None or "/" in run_id:
            return False
        return any(self._holds(room, run_id) for room in self.rooms(user))

    def _holds(self, own: UserPaths, run_id: str) -> bool:
        run = self.stored(own.run(run_id))
        folders = (Path(own.active), Path(own.runs))
        if not is_theirs(Path(own.root)) or any(folder.is_symlink() for folder in folders):
            return False
        return owner(Path(run.paths.record)) is not None or bool(run.seals())

    def find(self, name: str, user: str | None = None) -> tuple[str, str]:
        """(user, run id) of the run that a name means; see `naming`. RunNotFound, StoreError."""
        from hpcrun.store.naming import find

        return find(self, name, user)

    def paths(self, run_id: str, user: str | None = None) -> RunPaths:
        """The folders of a run; where there is none, of one that others may see."""
        room, *hidden = self.rooms(user)
        paths = room.run(run_id)
        if not hidden or os.path.lexists(paths.record):
            return paths
        private = hidden[0].run(run_id)
        is_there = os.path.lexists(private.record) or os.path.lexists(private.files)
        return private if is_there or self.stored(private).seals() else paths

    def stored(self, paths: RunPaths) -> StoredRun:
        """A run as it lies here, sealed or not."""
        self._expect_format()
        return StoredRun(paths)

    def request(self, paths: RunPaths) -> dict[str, Any]:
        """What was asked and resolved, as it was written before submission."""
        run = self.stored(paths)
        text = run.text("run.json")
        if text is None:
            run.raise_missing()
        if not text.strip(b"\0 \n"):
            raise StoreError(
                f"{paths.request} is empty: the host that wrote it may have crashed",
                f"its journals lie beside it, its files in {paths.files}",
            )
        value = object_in(Path(paths.request), text)
        wrong = REQUEST.wrong(value)
        if wrong:
            raise StoreError(f"{paths.request} is damaged: no good {', '.join(wrong)} in it")
        by = value.get("hpcrun")
        expect_known(f"run {paths.run_id}", value.get("format", FORMATS[0]), FORMATS, by)
        return value

    def script(self, paths: RunPaths) -> str:
        """The script as it was submitted; empty for an interactive run, which has none."""
        return (self.stored(paths).text("script.sh") or b"").decode("utf-8", "replace")

    def claimed(self, paths: RunPaths, submission: int) -> str | None:
        """Whose claim to a submission stands: a job's id, or what `claim` was given."""
        text = self.stored(paths).text(Path(paths.claim(submission)).name)
        return text.decode().strip() or None if text is not None else None

    def read(self, run_id: str, user: str | None = None) -> RunRecord:
        """The record of a run. Its id and user are those of the folder, whatever run.json says.

        What led to an end may come while it is read, into a journal that was read before the one
        that tells the end: one that is so new is read again.
        """
        record = self._read(run_id, user)
        is_new = record.ended is not None and abs(time.time() - record.ended) < JUST_NOW
        return self._read(run_id, user) if is_new else record

    def _read(self, run_id: str, user: str | None) -> RunRecord:
        paths = self.paths(run_id, user)
        facts, bad = self.facts(paths, JournalKind.FACTS)
        request = {**self.request(paths), "run_id": run_id, "user": user or self.user}
        return fold(request, facts, bad)

    def facts(self, paths: RunPaths, kind: JournalKind) -> tuple[list[Fact], int]:
        """What the journals of a kind tell of a run, and the count of bad lines."""
        return self.stored(paths).facts(kind)

    def metrics(self, paths: RunPaths) -> dict[str, Metric]:
        """What a run has logged, by name, in the order of names."""
        self.request(paths)  # tells whether its journals can be read at all
        return self.stored(paths).metrics()

    def logged(self, paths: RunPaths) -> Logged:
        """All of that, what else its journals of metrics tell, and the count of bad lines."""
        self.request(paths)
        return self.stored(paths).logged()

    def summary(self, paths: RunPaths) -> Summary:
        """How many values each metric has, and the last, without what need not be read."""
        return self.stored(paths).summary()

    def notes(self, paths: RunPaths) -> list[Fact]:
        """What its journals of metrics tell besides numbers: images, files, samples of nodes."""
        return self.stored(paths).notes()


def _json(value: Mapping[str, Any]) -> bytes:
    """JSON that every reader can decode: a byte that is not UTF-8 is an escape (`\\udcff`)."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


def _make_folders(paths: RunPaths) -> None:
    for folder in (paths.outputs, paths.logs, paths.user_logs):
        Path(folder).mkdir(parents=True, exist_ok=True)


def _take_name(aside: Path, record: Path) -> None:
    """Renames a folder; of two with one name, one is told that there is a run already."""
    try:
        aside.rename(record)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise StoreError(f"there is a run {record.name} already") from error
        raise
