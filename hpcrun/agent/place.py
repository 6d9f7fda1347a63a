"""Where the files of one node stand in the run's files. Standard library only (Python 3.8+).

The first node's files stand under their own names, whatever stood there. Those of another node
stand below `.nodes/<host>/` of their folder (outputs/.nodes/n2/model.pt), and under their own name
as well, a hard link, unless another node's file has it. Where all of them have their own names at
the end, the first ones are removed: only files whose names are taken are seen twice.
"""

from __future__ import annotations

import errno
import os
from typing import Iterable, List, Mapping, NamedTuple, Optional

from hpcrun.layout import NODES

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EXDEV)


class State(NamedTuple):
    """What tells whether a file has changed. mtime: nanoseconds."""

    size: int
    mtime: int
    inode: int

    @classmethod
    def of(cls, found: os.stat_result) -> State:
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


class Place:
    """One node's place. Every method may raise OSError.

    files: the run's folder in the history. first: whether this node's names are never taken. old:
    name → inode of what earlier attempts left there, which may be replaced.
    """

    def __init__(self, files: str, host: str, first: bool, old: Mapping[str, int]) -> None:
        self.first = first
        self.aside = os.path.join(files, f".collecting-{host}")
        self._files = files
        self._host = host
        self._old = old

    def path(self, name: str) -> str:
        """Where a file of this node surely stands."""
        return os.path.join(self._files, name if self.first else self.own_name(name))

    def own_name(self, name: str) -> str:
        """The name that no other node's file can have."""
        folder, _, rest = name.partition("/")
        return f"{folder}/{NODES}/{self._host}/{rest}"

    def publish(self, name: str) -> bool:
        """Gives what was written aside its name; tells whether that is its own and only one."""
        path, before = self.path(name), _inode(self.path(name))
        _make_folder(os.path.dirname(path))
        if os.path.isdir(path) and not os.path.islink(path):
            _remove_empty(path)  # the script has put a file in place of a folder
        os.rename(self.aside, path)
        return self.first or self._link(name, path, before)

    def _link(self, name: str, path: str, before: Optional[int]) -> bool:
        plain = os.path.join(self._files, name)
        there = _inode(plain)
        try:
            _make_folder(os.path.dirname(plain))
            if there is None:
                os.link(path, plain, follow_symlinks=False)
            elif there in (before, self._old.get(name)):
                os.link(path, self.aside, follow_symlinks=False)
                os.rename(self.aside, plain)
            else:
                return False
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return False
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        return True

    def holds(self, name: str, state: State) -> bool:
        """Whether it stands there as it was brought."""
        try:
            found = os.lstat(self.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (found.st_size, found.st_mtime_ns) == (state.size, state.mtime)

    def has_own_name(self, name: str) -> bool:
        """Whether it is this node's file that stands under its own name."""
        there = _inode(os.path.join(self._files, name))
        return there is not None and there == _inode(self.path(name))

    def remove(self, name: str) -> None:
        """Removes a file of this node."""
        names = [self.path(name)]
        if not self.first and self.has_own_name(name):
            names.insert(0, os.path.join(self._files, name))
        for path in names:
            try:
                os.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                pass

    def settle(self, names: Iterable[str]) -> List[str]:
        """All is there: gives the names that are taken; without any, what stands twice goes."""
        if self.first:
            return []
        every = [name for name in names if _inode(self.path(name)) is not None]
        taken = [name for name in every if not self.has_own_name(name)]
        if not taken:
            for name in every:
                os.unlink(self.path(name))
            for folder in {name.partition("/")[0] for name in every}:
                nodes = os.path.join(self._files, folder, NODES)
                _remove_empty(os.path.join(nodes, self._host))
                _remove_if_empty(nodes)
        return taken


def _make_folder(path: str) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, exist_ok=True)


def _inode(path: str) -> Optional[int]:
    try:
        return os.lstat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None


def _remove_empty(path: str) -> None:
    """Removes the empty folders of a tree."""
    for folder, _, _ in os.walk(path, topdown=False):
        _remove_if_empty(folder)


def _remove_if_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        pass  # it holds something, or a link stands there
