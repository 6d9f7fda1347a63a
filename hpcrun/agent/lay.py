"""Laying a snapshot into the job's folder. Standard library only (Python 3.8+).

Files are cloned or copied, never hard-linked: what the job writes into them stays its own. What
an earlier attempt left under the same name is replaced; everything else stays.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from typing import Any, Callable, List, Mapping, Optional, Set

from hpcrun.agent.setting import Snapshot
from hpcrun.errors import SnapshotError
from hpcrun.layout import COLLECTED, RunPaths

FICLONE = 0x40049409
"""The ioctl by which XFS, btrfs and others share a file's blocks until one is written to."""

_BLOCK = 1 << 20


def never() -> bool:
    """Nobody asks to stop."""
    return False


def lay_out(
    snapshot: Optional[Snapshot],
    paths: RunPaths,
    stopped: Callable[[], bool] = never,
    work: Optional[str] = None,
) -> None:
    """Makes the run's folders, and lays the snapshot beside them, if there is one.

    stopped: asked before each file; where it says yes, the rest is left out. work: where the job
    works, if that is not the run's folder; it is there. SnapshotError.
    """
    folders = [paths.outputs, paths.logs, paths.user_logs]
    if work is not None:
        folders += [os.path.join(work, name) for name in COLLECTED]
    try:
        for folder in folders:
            os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise SnapshotError(f"cannot make the folder {folder}: {error.strerror}") from error
    if snapshot is None:
        return
    layer = _Layer(os.fsencode(work or paths.files), os.fsencode(snapshot.objects))
    for entry in _entries(snapshot.manifest):
        if stopped():
            return
        layer.lay(entry)


def _entries(path: str) -> List[Mapping[str, Any]]:
    try:
        with open(path, "rb") as file:
            entries: List[Mapping[str, Any]] = json.load(file)["entries"]
            return entries
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"cannot read the snapshot's manifest {path}: {error}") from error


class _Layer:
    """Lays entries. clones: whether the file system has not yet refused to clone."""

    def __init__(self, root: bytes, objects: bytes) -> None:
        self._root = root
        self._objects = objects
        self._made: Set[bytes] = {b""}
        self._clones = True

    def lay(self, entry: Mapping[str, Any]) -> None:
        name = _name(entry["path"])
        if name.startswith(b"/") or b".." in name.split(b"/"):
            raise SnapshotError(f"the snapshot holds {entry['path']!r}, which leads outside")
        try:
            self._make_folder(os.path.dirname(name))
            place = os.path.join(self._root, name)
            if "target" in entry:
                clear(place)
                os.symlink(_name(entry["target"]), place)
            else:
                self._lay_file(entry, place)
        except OSError as error:
            raise SnapshotError(f"cannot lay {entry['path']}: {error.strerror}") from error

    def _make_folder(self, name: bytes) -> None:
        """A folder of the snapshot; a link in its place would lead elsewhere, and is replaced."""
        if name in self._made:
            return
        self._make_folder(os.path.dirname(name))
        path = os.path.join(self._root, name)
        try:
            os.mkdir(path)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                os.unlink(path)
                os.mkdir(path)
        self._made.add(name)

    def _lay_file(self, entry: Mapping[str, Any], place: bytes) -> None:
        digest = entry["sha256"].encode("ascii")
        stored = os.path.join(self._objects, digest[:2], digest[2:])
        try:
            source = os.open(stored, os.O_RDONLY)
        except OSError as error:
            text = f"cannot read the content of {entry['path']}, {os.fsdecode(stored)}"
            raise SnapshotError(f"{text}: {error.strerror}") from error
        try:
            target = _new_file(place, 0o777 if entry["executable"] else 0o666)
            try:
                self._copy(source, target)
                size = os.fstat(target).st_size
            finally:
                os.close(target)
        finally:
            os.close(source)
        if size != entry["size"]:
            told = f"{size} bytes, not {entry['size']}"
            raise SnapshotError(f"the content of {entry['path']} is damaged: it has {told}")

    def _copy(self, source: int, target: int) -> None:
        if self._clones:
            try:
                fcntl.ioctl(target, FICLONE, source)
                return
            except OSError:
                self._clones = False
        block = os.read(source, _BLOCK)
        while block:
            block = block[os.write(target, block) :] or os.read(source, _BLOCK)


def _name(text: str) -> bytes:
    """A name as the manifest means it, whatever the locale."""
    return text.encode("utf-8", "surrogateescape")


def _new_file(place: bytes, mode: int) -> int:
    """A new file of that mode, as the umask allows."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        return os.open(place, flags, mode)
    except FileExistsError:
        clear(place)
        return os.open(place, flags, mode)


def clear(place: bytes) -> None:
    """Removes what stands there, and what it holds. OSError."""
    try:
        if not stat.S_ISDIR(os.lstat(place).st_mode):
            os.unlink(place)
            return
    except FileNotFoundError:
        return
    for folder, folders, files in os.walk(place, topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
        for name in folders:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                os.unlink(path)
            else:
                os.rmdir(path)
    os.rmdir(place)
