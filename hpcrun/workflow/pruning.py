"""Removing environments that no run needs: first what would go, then what has gone.

An environment stays while a run that is not sealed has it, of whomever in the workspace, and for
some time after it was wanted last.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hpcrun.environments.cache import MARKER, listed
from hpcrun.environments.packing import ASIDE, PACKS, SUFFIX, forget
from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.store import FileStore
from hpcrun.store.publishing import take_name

YOUNG = 2 * 86_400
"""Seconds for which everything stays: a submission may be about to name it."""

PACKED = "packed"
"""What stands for the name of a packed environment."""

_BUILD = re.compile(r"\.build-[0-9a-f]{8}\Z")
_GOING = ".pruned"


class Unneeded(NamedTuple):
    """What no run needs. name: for people; of a killed build there is none. folder: its link, or
    that of the build."""

    folder: str
    name: str | None
    files: int
    bytes: int


def unneeded(store: FileStore, now: float, idle: float) -> list[Unneeded]:
    """This user's environments that nothing has wanted for `idle` seconds, and what killed builds
    left. Nothing is removed. StoreError, also where a run cannot be read that may need one."""
    before, used = now - max(idle, YOUNG), _in_use(store)
    found = []
    for room in (room.environments for room in store.rooms()):
        there = listed(room)
        for built in there:
            marker = _status(Path(built.folder, MARKER))
            if marker is None or marker.st_mtime >= before or Path(built.folder).name in used:
                continue
            name = str(built.marker["name"])
            found.append(Unneeded(built.folder, name, *_measured(Path(built.folder).resolve())))
        for left in _left(room, now - YOUNG):
            found.append(Unneeded(str(left), None, *_measured(left.resolve())))
        for packed in _packs(room):
            status = _status(packed)
            if status is not None and status.st_mtime < before and packed.name not in used:
                found.append(Unneeded(str(packed), PACKED, 1, status.st_size))
    return found


def _status(path: Path) -> os.stat_result | None:
    """None: somebody else has removed it meanwhile."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def prune(going: Sequence[Unneeded], store: FileStore, now: float, idle: float) -> list[Unneeded]:
    """Removes what was found, unless a run has been submitted with it since, something else has
    wanted it, or somebody has removed it; gives what went. now, idle: as it was found with."""
    before = now - max(idle, YOUNG)
    gone = []
    for each in going:
        path = Path(each.folder)
        with told(f"remove the environment {path}"):
            if path.name.endswith(_GOING):
                went = _finished(path, store, before)
            elif each.name is None:
                went = _build_removed(path, now - YOUNG)
            else:
                went = (_pack_removed if each.name == PACKED else _removed)(path, store, before)
        gone += [each] if went else []
    return gone


def _build_removed(path: Path, before: float) -> bool:
    """Removes what a killed build left, unless it has got a name since."""
    if path not in _left(str(path.parent), before):
        return False
    _delete(path)
    return True


def _removed(path: Path, store: FileStore, before: float) -> bool:
    """Removes an environment, the name first."""
    aside = path.with_name(f".{path.name}{_GOING}")
    if not _is_away(path, aside, store, before):
        return False
    _delete(aside.resolve())
    aside.unlink()
    return True


def _finished(aside: Path, store: FileStore, before: float) -> bool:
    """Removes an environment whose name was taken away by one who was killed then."""
    path = aside.with_name(aside.name[1:].removesuffix(_GOING))
    if not aside.is_symlink() or not _goes(path, aside, store, before):
        return False
    _delete(aside.resolve())
    aside.unlink(missing_ok=True)
    return True


def _pack_removed(path: Path, store: FileStore, before: float) -> bool:
    """Removes a packed environment. Killed on the way, it has the name of one that is not whole."""
    if not ASIDE.match(path.name):
        aside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
        if not _is_away(path, aside, store, before):
            return False
        forget(str(path))
        path = aside
    path.unlink(missing_ok=True)
    return True


def _is_away(path: Path, aside: Path, store: FileStore, before: float) -> bool:
    """Takes a name away, unless it is wanted after all."""
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False  # another one's
    return _goes(path, aside, store, before)


def _goes(path: Path, aside: Path, store: FileStore, before: float) -> bool:
    """Looks once more whether a run has what is aside now, or anything has wanted it since: then
    it has its name again."""
    goes = False
    try:
        status = _status(aside / MARKER if aside.is_symlink() else aside)
        is_young = status is not None and status.st_mtime >= before
        with suppress(FileNotFoundError):
            os.utime(aside)  # who prunes as well spares what has no name only while it is young
        goes = not is_young and path.name not in _in_use(store)
    finally:
        if not goes:
            take_name(aside, path)  # another one may have it by now
            aside.unlink(missing_ok=True)
    return goes


def _delete(folder: Path) -> None:
    """Removes a folder, which somebody else may do at the same time. OSError."""
    while folder.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


def _in_use(store: FileStore) -> set[str]:
    """The names of the environments of all runs that may start or go on, whoever's they are: each
    may reach the workspace by another path. StoreError: a run cannot be read."""
    used = set()
    for user in store.users():
        for run_id in store.active_ids(user):
            paths = store.paths(run_id, user)
            try:
                environment = store.request(paths)["environment"]
                for key in ("virtual_environment", "packed"):
                    used.add(Path(environment.get(key) or "").name)
            except LookupError:
                continue  # interactive, or sealed: only what is told since stands there
            except StoreError as error:
                if not Path(paths.record).exists():
                    continue
                message = f"what run {run_id} of {user} needs cannot be read, so all stays"
                raise StoreError(f"{message}: {error.message}", error.hint) from error
    return used


def _left(room: str, before: float) -> Iterator[Path]:
    """Builds in a room that no link names, and that nobody has written to for long; and names that
    were taken away by one who was killed then."""
    try:
        names = os.listdir(room)
    except FileNotFoundError:
        return
    links = [path for path in (Path(room, name) for name in names) if path.is_symlink()]
    linked = {_target(path) for path in links}
    for path in (Path(room, name) for name in names):
        is_build = _BUILD.match(path.name) and path.name not in linked
        status = _status(path) if is_build or path.name.endswith(_GOING) else None
        since = 0.0 if status is None else status.st_mtime if is_build else status.st_ctime
        if status is not None and since < before:
            yield path


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return ""  # it goes just now, and what it names with it


def _packs(room: str) -> list[Path]:
    """The packed environments of a room, and what killed packers left of some."""
    try:
        there = sorted(Path(room, PACKS).iterdir())
    except FileNotFoundError:
        return []
    return [path for path in there if path.name.endswith(SUFFIX) or ASIDE.match(path.name)]


def _measured(folder: Path) -> tuple[int, int]:
    """(files, bytes) below a folder."""
    every = (_status(Path(where, name)) for where, _, files in os.walk(folder) for name in files)
    sizes = [status.st_size for status in every if status is not None]
    return len(sizes), sum(sizes)
