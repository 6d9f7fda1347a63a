"""Where the files of one node stand in the run's files. Standard library only (Python 3.8+).

The first node's files stand under their own names, whatever stood there. Those of another node
stand below `.nodes/<host>/` of their folder (outputs/.nodes/n2/model.pt), and under their own name
as well, a hard link, unless another node's file has it: nothing is lost where the first node takes
a name later. When the files of all nodes have come (`tidy`), what stands apart for a node goes, if
all of it has its own names.
"""

from __future__ import annotations

import errno
import os
from typing import Iterator, List, Mapping, NamedTuple, Optional, Tuple

from hpcrun.layout import COLLECTED, NODES

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
    name → inode of what earlier attempts left there, which may be replaced. late: whether the run's
    other files have come: what stands under a file's own name may be this node's, tidied.
    """

    def __init__(
        self, files: str, host: str, first: bool, old: Mapping[str, int], late: bool = False
    ) -> None:
        self.first = first
        self._late = late
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

    def publish(self, name: str) -> None:
        """Gives what was written aside its name."""
        path, before = self.path(name), _inode(self.path(name))
        _make_folder(os.path.dirname(path))
        if os.path.isdir(path) and not os.path.islink(path):
            remove_empty(path)  # the script has put a file in place of a folder
        os.rename(self.aside, path)
        if not self.first:
            self._link(name, path, before)

    def _link(self, name: str, path: str, before: Optional[int]) -> None:
        """Gives it its own name as well, unless that is taken."""
        plain = os.path.join(self._files, name)
        there = _inode(plain)
        try:
            _make_folder(os.path.dirname(plain))
            if there is None:
                os.link(path, plain, follow_symlinks=False)
            elif there in (before, self._old.get(name)):
                os.link(path, self.aside, follow_symlinks=False)
                os.rename(self.aside, plain)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            pass  # it is taken
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise

    def holds(self, name: str, state: State) -> bool:
        """Whether it stands there as it was brought."""
        return _is(self.path(name), state)

    def may_stand(self, name: str, state: State) -> Iterator[str]:
        """Where it may stand already, brought by a collector before: if the content is the same.

        Files of two nodes may well have one size and one time.
        """
        places = [self.path(name)]
        if self._late and not self.first:
            places.append(os.path.join(self._files, name))
        return (path for path in places if _is(path, state))

    def remove(self, name: str) -> None:
        """Removes a file of this node."""
        names, plain = [self.path(name)], os.path.join(self._files, name)
        if not self.first and _inode(plain) == _inode(self.path(name)):
            names.insert(0, plain)
        for path in names:
            try:
                os.unlink(path)
            except (FileNotFoundError, NotADirectoryError):
                pass


def tidy(files: str) -> List[str]:
    """Every node's files have come: removes what stands apart for a node none of whose names is
    taken. Gives the names that are, such as `outputs/a, kept as outputs/.nodes/n2/a`. OSError.
    """
    taken = []
    for host in sorted({host for folder in COLLECTED for host in _hosts(files, folder)}):
        apart = list(_apart(files, host))
        of_host = [
            f"{name}, kept as {own}" for name, own in apart if not _is_same(files, name, own)
        ]
        taken += of_host
        if not of_host:
            for _, own in apart:
                os.unlink(os.path.join(files, own))
            for folder in COLLECTED:
                remove_empty(os.path.join(files, folder, NODES, host))
    for folder in COLLECTED:
        remove_if_empty(os.path.join(files, folder, NODES))
    return taken


def _hosts(files: str, folder: str) -> List[str]:
    try:
        return os.listdir(os.path.join(files, folder, NODES))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _apart(files: str, host: str) -> Iterator[Tuple[str, str]]:
    """(name, the name it has apart) of all files and links of a node."""
    for folder in COLLECTED:
        root = os.path.join(files, folder, NODES, host)
        for where, folders, names in os.walk(root):
            links = [name for name in folders if os.path.islink(os.path.join(where, name))]
            for name in (*names, *links):
                rest = os.path.relpath(os.path.join(where, name), root)
                yield f"{folder}/{rest}", f"{folder}/{NODES}/{host}/{rest}"


def _is_same(files: str, name: str, own: str) -> bool:
    return _inode(os.path.join(files, name)) == _inode(os.path.join(files, own))


def _is(path: str, state: State) -> bool:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (found.st_size, found.st_mtime_ns) == (state.size, state.mtime)


def _make_folder(path: str) -> None:
    if not os.path.isdir(path):
        os.makedirs(path, exist_ok=True)


def _inode(path: str) -> Optional[int]:
    try:
        return os.lstat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None


def remove_empty(path: str) -> None:
    """Removes the empty folders of a tree."""
    for folder, _, _ in os.walk(path, topdown=False):
        remove_if_empty(folder)


def remove_if_empty(folder: str) -> None:
    """Removes a folder that holds nothing."""
    try:
        os.rmdir(folder)
    except OSError:
        pass  # it holds something, is not there, or a link stands there
