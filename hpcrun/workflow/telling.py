"""The far half of a mirror: what there is of the runs that are chosen, and what of it is new.

Two versions of each run go back and forth, of its record and of its files: digests of names, sizes
and times. What has the version that the near half knows is not told again.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hpcrun.errors import HpcrunError, StoreError, TransportError
from hpcrun.faults import told
from hpcrun.forms import is_run_id
from hpcrun.layout import Attempt, RunPaths, UserPaths, experiment_of, sealed_of
from hpcrun.metrics.uploads import FOLDERS, UPLOADS, place_of
from hpcrun.record import RunRecord
from hpcrun.state import State
from hpcrun.store.plain import files_in
from hpcrun.store.stored import StoredRun
from hpcrun.workflow.files import found_on_disk
from hpcrun.workflow.seal import LARGEST
from hpcrun.workflow.session import Session

ALWAYS = "user_logs/"
"""How the names begin of files that come in any case: standard output and error."""

_ASIDE = re.compile(r"claim-\d+\..+")
"""What a job writes on its way to a claim: it is gone in no time."""

Known = Mapping[str, tuple[str, str]]
"""run id → the versions of its record and of its files that the near half has."""


class ToldFile(NamedTuple):
    """A file: its path in the room of its user, its bytes, its time in nanoseconds."""

    path: str
    size: int
    mtime: int


class ToldRun(NamedTuple):
    """A run there. user: whose it is. room: the folder that paths are relative to.

    ended: whether nothing more happens to it by itself. state, reason, attempt: the newest, as it
    is known there. record, files: None of what the near half has.
    """

    run_id: str
    user: str
    room: str
    private: bool
    ended: bool
    state: str
    reason: str
    attempt: str
    record_version: str
    record: tuple[ToldFile, ...] | None
    files_version: str
    files: tuple[ToldFile, ...] | None


@dataclass(frozen=True)
class Told:
    """What there is in a workspace of the runs that were chosen. notes: what is not told, a line
    each."""

    workspace: str
    runs: tuple[ToldRun, ...]
    notes: tuple[str, ...] = ()

    def encode(self) -> str:
        """As JSON in ASCII."""
        return json.dumps([self.workspace, self.runs, self.notes], separators=(",", ":"))

    @classmethod
    def decode(cls, text: bytes) -> Told:
        """From JSON. TransportError: it is none, or leads out of the folders of its runs."""
        try:
            workspace, runs, notes = json.loads(text)
            found = tuple(map(_run, runs))
        except (ValueError, TypeError, RecursionError) as error:
            raise TransportError(f"the other side tells no runs: {error}") from error
        return cls(str(workspace), found, tuple(map(str, notes)))


def tell(
    session: Session,
    records: Iterable[RunRecord],
    patterns: Sequence[str],
    known: Known,
    say: Callable[[str], object] = lambda text: None,
) -> Told:
    """What there is of these runs, which are up to date. patterns: names of files, as `hpcrun
    files` tells them or below outputs/; `*` also fits /. say: hears of files that are wanted and
    cannot be read. A run that cannot be is a note."""
    runs, notes = [], []
    for record in records:
        try:
            versions = known.get(record.run_id, ("", ""))
            runs.append(_tell(session, record, patterns, versions, say))
        except HpcrunError as error:
            notes.append(f"run {record.run_id} does not come along: {error.message}")
    return Told(str(session.workspace), tuple(runs), tuple(notes))


def _tell(
    session: Session,
    record: RunRecord,
    patterns: Sequence[str],
    known: tuple[str, str],
    say: Callable[[str], object],
) -> ToldRun:
    paths = session.store.paths(record.run_id, record.user)
    room = paths.owner.root
    with told(f"read the record {paths.record}"):
        of_record = tuple(_of_record(session.store.stored(paths), room))
    size = sum(file.size for file in of_record)
    if size > LARGEST:
        raise StoreError(f"its record has {size} bytes; {LARGEST} are mirrored at most")
    wanted = [each for each in sorted(found_on_disk(paths)) if is_wanted(each[0], patterns)]
    come = [each for each in wanted if os.access(place_of(paths.files, each[0]), os.R_OK)]
    if missing := len(wanted) - len(come):
        wants = f"{missing} of {len(wanted)} files that are wanted"
        say(f"run {record.run_id}: {wants} cannot be read there")
    files = tuple(_told_file(paths, *each) for each in come)
    versions = _version(of_record), _version(files)
    return ToldRun(
        record.run_id,
        record.user,
        room,
        paths.owner.is_private,
        session.is_over(record),
        str(record.state),
        record.attempt.reason,
        str(record.attempt.attempt),
        versions[0],
        None if versions[0] == known[0] else of_record,
        versions[1],
        None if versions[1] == known[1] else files,
    )


def _of_record(run: StoredRun, room: str) -> Iterator[ToldFile]:
    """Its sealed file, unless its journals tell all, and what lies in its folder."""
    if not run.is_whole:
        numbers = run.seals()
        if not numbers:
            run.raise_missing()
        yield _told(run.sealed_path(numbers[0]), room)
    for name in sorted(files_in(run.paths.record)):
        if not name.startswith(".") and not _ASIDE.fullmatch(name):
            yield _told(Path(run.paths.record, name), room)


def _told_file(paths: RunPaths, name: str, found: os.stat_result) -> ToldFile:
    path = posixpath.relpath(place_of(paths.files, name), paths.owner.root)
    return ToldFile(path, found.st_size, found.st_mtime_ns)


def is_wanted(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file of a run comes along."""
    below = name.removeprefix("outputs/")
    return name.startswith(ALWAYS) or any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(below, pattern)
        for pattern in patterns
    )


def _told(path: Path, room: str) -> ToldFile:
    found = path.lstat()
    return ToldFile(path.relative_to(room).as_posix(), found.st_size, found.st_mtime_ns)


def _version(files: Sequence[ToldFile]) -> str:
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


# -- what the near half reads of it ---------------------------------------------------------------


def _run(value: list[Any]) -> ToldRun:
    """ValueError, TypeError: it is none, or leads elsewhere."""
    run = ToldRun(*value)
    if not is_run_id(run.run_id) or run.run_id.startswith("."):
        raise ValueError(f"{run.run_id!r} is no run id")
    experiment_of(run.run_id), State(run.state), Attempt.parse(run.attempt)
    if not all(isinstance(text, str) for text in (run.user, run.room, run.reason, *run[8::2])):
        raise TypeError(f"what it tells of run {run.run_id} has another form")
    own = UserPaths("").run(run.run_id)
    return run._replace(
        record=_checked(run.record, lambda path: _is_of_record(path, own)),
        files=_checked(run.files, lambda path: _is_of_files(path, own)),
    )


def _checked(told: Any, is_good: Any) -> tuple[ToldFile, ...] | None:
    if told is None:
        return None
    files = tuple(ToldFile(*file) for file in told)
    for path, size, mtime in files:
        if not (isinstance(path, str) and isinstance(size, int) and isinstance(mtime, int)):
            raise TypeError(f"{path!r} is no file")
        if "\0" in path or posixpath.normpath(path) != path or not is_good(path):
            raise ValueError(f"{path!r} leads elsewhere")
    return files


def _is_of_record(path: str, own: RunPaths) -> bool:
    above, name = posixpath.split(path)
    sealed = sealed_of(name)
    return (above == own.record and not name.startswith(".")) or (
        above == own.sealed and sealed is not None and sealed[0] == own.run_id
    )


def _is_of_files(path: str, own: RunPaths) -> bool:
    return path.startswith(tuple(f"{own.files}/{folder}/" for folder in (*FOLDERS, UPLOADS)))
