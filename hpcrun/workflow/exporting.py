"""Exporting runs: one file with their records, files and sources, for another workspace.

A record goes as one sealed file, whether or not it is sealed here: what is known at that moment.
"""

from __future__ import annotations

import fnmatch
import os
import posixpath
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import RunPaths, UserPaths, sealed_name
from hpcrun.metrics.uploads import PART, UPLOADS
from hpcrun.progress import counted
from hpcrun.record import RunRecord
from hpcrun.snapshot import read_manifest
from hpcrun.store.bundle import KEPT, Bundle, LinkMember, Member, RunEntry, object_path
from hpcrun.store.hdf5 import Damaged, check
from hpcrun.store.holes import Survey, survey, whole
from hpcrun.store.packing import Source, write_bundle
from hpcrun.store.plain import open_plain
from hpcrun.store.publishing import replace
from hpcrun.store.removal import bytes_of_record
from hpcrun.store.rows import newest_first
from hpcrun.store.sealed import KIND, sealed
from hpcrun.store.stored import StoredRun
from hpcrun.workflow.code import digest_of
from hpcrun.workflow.delete import with_descendants
from hpcrun.workflow.files import is_inside, status_of
from hpcrun.workflow.seal import LARGEST
from hpcrun.workflow.session import Session


class Exported(NamedTuple):
    """A run that goes along: how many of its files do, their bytes, how many do not."""

    record: RunRecord
    files: int
    bytes: int
    left_out: int


class Export(NamedTuple):
    """What was written. notes: what does not go along, a line each."""

    path: Path
    bytes: int
    runs: tuple[Exported, ...]
    notes: tuple[str, ...]


def family(session: Session, records: Iterable[RunRecord]) -> list[RunRecord]:
    """These runs and all below them, up to date, newest first; each once. StoreError."""
    found = {r.run_id: r for record in records for r in with_descendants(session, record)}
    return session.refreshed(found[run_id] for run_id in sorted(found, key=newest_first))


def obstacle(session: Session, record: RunRecord) -> tuple[str, str]:
    """Why a run cannot be exported, and what to do about it; empty if it can."""
    if record.is_private:
        why = "it is private, and whoever took it in would show it"
        return why, "its files can be copied: hpcrun download"
    if not session.is_over(record):
        return f"it is {record.state}", "export it when nothing more happens to it"
    size = bytes_of_record(session.store.paths(record.run_id, record.user))
    if size > LARGEST:
        return f"its record has {size} bytes; {LARGEST} are sealed at most", ""
    return "", ""


def export(
    session: Session, records: Sequence[RunRecord], path: Path, without: Sequence[str]
) -> Export:
    """Writes an export of runs that have ended. without: patterns of names of files. StoreError."""
    with (
        told(f"write {path}"),
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder,
    ):
        gathering = _Gathering(session, Path(folder), without)
        with counted("reading runs", len(records), "runs") as tell:
            runs = []
            for record in records:
                runs.append(gathering.add(record))
                tell(1)
        size = write_bundle(path, gathering.bundle(), gathering.sources)
    return Export(path, size, tuple(runs), tuple(gathering.notes))


class _Gathering:
    """What goes into an export. folder: where records are sealed for it."""

    def __init__(self, session: Session, folder: Path, without: Sequence[str]) -> None:
        self._session = session
        self._folder = folder
        self._without = without
        self._runs: list[RunEntry] = []
        self._members: list[Member | LinkMember] = []
        self._code: dict[str, Member] = {}
        self.sources: dict[str, Source] = {}
        self.notes: list[str] = []

    def bundle(self) -> Bundle:
        # Whoever finds a manifest shall have found what it names.
        code = sorted(self._code.values(), key=lambda m: (m.path.endswith(".json"), m.path))
        return Bundle(tuple(self._runs), (*self._members, *code))

    def add(self, record: RunRecord) -> Exported:
        """Adds a run. StoreError: it cannot be read."""
        store = self._session.store
        paths = store.paths(record.run_id, record.user)
        origin = record.imported
        entry = RunEntry(
            record.run_id,
            origin.user if origin else record.user,
            origin.workspace if origin else str(store.workspace),
            self._add_code(record),
        )
        sealed_file = _record(store.stored(paths), self._folder)
        self._members.append(self._member(entry.record, sealed_file))
        files, left_out = self._files(paths, entry)
        self._members += files
        before = origin.left_out if origin else 0
        self._runs.append(entry._replace(left_out=before + left_out))
        if record.attempt.undrained:
            nodes = ", ".join(record.attempt.undrained)
            self.notes.append(f"run {record.run_id}: records may wait on {nodes} (hpcrun collect)")
        sizes = [file.size for file in files if isinstance(file, Member)]
        return Exported(record, len(files), sum(sizes), left_out)

    def _member(self, path: str, source: Path) -> Member:
        """A file that goes along byte for byte."""
        with told(f"read {source}"), open_plain(source) as file:
            found = whole(file.fileno())
        self.sources[path] = Source(source, found)
        return Member(path, found.size, found.sha256)

    def _add_code(self, record: RunRecord) -> str | None:
        """Adds the source of a run; gives its digest, or None where there is none to be had."""
        digest = digest_of(record)
        if digest is None or UserPaths("").manifest(digest) in self._code:
            return digest
        own = UserPaths.of(str(self._session.workspace), record.user)
        added = {}
        try:
            for entry in read_manifest(own, digest).files:
                path = object_path(entry.sha256)
                if path not in self._code:
                    added[path] = self._member(path, Path(own.root, path))
                    if added[path].sha256 != entry.sha256:
                        raise StoreError(f"the stored content of {entry.path} is damaged")
            path = UserPaths("").manifest(digest)
            added[path] = self._member(path, Path(own.root, path))
        except StoreError as error:
            self.notes.append(f"run {record.run_id}: without its source: {error.message}")
            return None
        self._code |= added
        return digest

    def _files(self, paths: RunPaths, entry: RunEntry) -> tuple[list[Member | LinkMember], int]:
        """The files of a run and its links, by path, and how many files are left out."""
        root, own = Path(paths.files), Path(paths.owner.root)
        is_own = own == Path(self._session.store.own.root)
        if not is_own and not root.resolve().is_relative_to(own.resolve()):
            raise StoreError(f"the files of run {entry.run_id} lie in a folder of somebody else")
        found = dict(_entries(root))
        closed = {name for name, path in found.items() if _is_closed(path)}
        if closed:
            told = f"{len(closed)} files stay behind, which you have no right to read"
            self.notes.append(f"run {entry.run_id}: {told}")
        chosen = {
            name: path
            for name, path in found.items()
            if name not in closed and self._is_wanted(name)
        }
        files = {name: path for name, path in chosen.items() if not path.is_symlink()}
        places = {posixpath.dirname(name) for name in files}
        places |= {p.as_posix() for place in places for p in Path(place).parents} | files.keys()
        places.discard(".")
        members: dict[str, Member | LinkMember] = {}
        for name, path in chosen.items():
            member_path = f"{entry.files}/{name}"
            if name in files:
                members[name] = self._file(member_path, path)
            elif (place := _place(path, root)) in places:
                members[name] = LinkMember(member_path, _target(name, path, place))
            elif place.split("/")[0] not in KEPT and Path(root, place).is_file():
                # Of a file that does not go along by itself, such as one of the source.
                members[name] = self._file(member_path, Path(root, place))
        lost = sum(chosen[name].is_symlink() for name in chosen.keys() - members.keys())
        if lost:
            self.notes.append(f"run {entry.run_id}: {lost} links lead to nothing that goes along")
        left_out = sum(status_of(found[name], root) is not None for name in found.keys() - chosen)
        return [members[name] for name in sorted(members)], left_out

    def _is_wanted(self, name: str) -> bool:
        named = name.removeprefix(f"{UPLOADS}/")
        return not any(fnmatch.fnmatchcase(named, pattern) for pattern in self._without)

    def _file(self, member_path: str, path: Path) -> Member:
        with told(f"read {path}"), open_plain(path) as file:
            found = survey(file.fileno())
            status = os.fstat(file.fileno())
        self.sources[member_path] = Source(path, found)
        return _member_of(member_path, found, status)


def _member_of(path: str, found: Survey, status: os.stat_result) -> Member:
    return Member(
        path,
        found.size,
        found.sha256,
        bool(status.st_mode & stat.S_IXUSR),
        max(0, status.st_mtime_ns),
        found.stored if found.map else None,
    )


def _is_closed(path: Path) -> bool:
    return not path.is_symlink() and not os.access(path, os.R_OK)


def _record(run: StoredRun, folder: Path) -> Path:
    """A sealed file that is all of a run's record: its own, or one that is made in the folder."""
    numbers = run.seals()
    if numbers and not Path(run.paths.record).exists():
        path = run.sealed_path(numbers[0])
        try:
            with told(f"read {path}"):
                check(path, KIND)
            return path
        except Damaged:
            pass  # its journals may be kept
    path = folder / sealed_name(run.paths.run_id, 0)
    replace(path, sealed(run.content()))
    return path


def _entries(root: Path) -> Iterator[tuple[str, Path]]:
    """(name, path) of the files of a run, and of links that lead to no place outside of it."""
    for folder in KEPT:
        if not is_inside(root / folder, root):
            continue
        for where, folders, names in os.walk(root / folder):
            links = [name for name in folders if Path(where, name).is_symlink()]
            for name in (*names, *links):
                path = Path(where, name)
                is_part = name.startswith(".") and name.endswith(PART)
                if name in links or (status_of(path, root) is not None and not is_part):
                    yield path.relative_to(root).as_posix(), path


def _place(path: Path, root: Path) -> str:
    """Where a link leads in the end, from the run's folder; the folder itself if nowhere in it."""
    try:
        return path.resolve(strict=True).relative_to(root.resolve()).as_posix()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
        return "."


def _target(name: str, path: Path, place: str) -> str:
    """What stands in a link that leads to a place in one step."""
    written, above = str(path.readlink()), posixpath.dirname(name)
    if not written.startswith("/") and posixpath.normpath(f"{above}/{written}") == place:
        return written
    return posixpath.relpath(place, above)
