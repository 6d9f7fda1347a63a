"""What lies below a folder, and copies of it, file by file. Standard library only (Python 3.8+)."""

from __future__ import annotations

import os
import stat
from typing import Callable, Iterator, NamedTuple, Optional, Tuple

from hpcrun.agent import copying


class File(NamedTuple):
    """Something in a tree. target: of a link that stays one; None: a file of that size, or a
    folder that holds nothing."""

    name: str
    size: int
    mode: int
    target: Optional[str] = None

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder that holds nothing."""
        return stat.S_ISDIR(self.mode)


def tree(root: str, tell: Callable[[str], None]) -> Iterator[File]:
    """All that is below a folder (a file: itself, with an empty name); of folders those that hold
    nothing.

    Links within it stay links; of others what they lead to is taken. tell: takes a problem.
    """
    if not os.path.isdir(root):
        found = os.stat(root)
        yield File("", found.st_size, found.st_mode)
        return
    yield from _below(root, "", os.path.realpath(root), (os.path.realpath(root),), tell)


def _below(
    root: str, name: str, real: str, above: Tuple[str, ...], tell: Callable[[str], None]
) -> Iterator[File]:
    """real: of the whole tree. above: the real paths of the folders that lead here."""
    try:
        entries = sorted(os.scandir(os.path.join(root, name)), key=lambda entry: entry.name)
    except OSError as error:
        tell(f"{os.path.join(root, name)}: {error.strerror}")
        return
    if name and not entries:
        yield File(name, 0, stat.S_IFDIR)
    for entry in entries:
        within = os.path.join(name, entry.name)
        try:
            target = os.path.realpath(entry.path)
            if entry.is_symlink() and _is_below(target, real):
                stays = os.path.relpath(target, os.path.dirname(os.path.join(real, within)))
                yield File(within, 0, 0, stays)
                continue
            found = entry.stat()
        except OSError as error:
            tell(f"{entry.path}: {error.strerror}")
            continue
        if stat.S_ISDIR(found.st_mode):
            if target in above:
                tell(f"{entry.path} leads back to {target}")
            else:
                yield from _below(root, within, real, (*above, target), tell)
        elif not stat.S_ISREG(found.st_mode):
            tell(f"{entry.path} is neither a file nor a folder")
        elif not os.access(entry.path, os.R_OK):
            tell(f"{entry.path} cannot be read")
        else:
            yield File(within, found.st_size, found.st_mode)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def copy(source: str, place: str, file: File) -> None:
    """Copies a file, and looks whether all of it came. OSError, SourceError, ValueError."""
    if file.target is not None:
        os.symlink(file.target, place)
        return
    reading = os.open(source, os.O_RDONLY)
    try:
        before = os.fstat(reading)
        writing = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode & 0o777 | 0o600)
        try:
            copying.copy_all(reading, writing)
            size = os.fstat(writing).st_size
        finally:
            os.close(writing)
        after = os.fstat(reading)
    finally:
        os.close(reading)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ValueError(f"{source} was changed while it was copied")
    if size != after.st_size:
        raise ValueError(f"{source} has {after.st_size} bytes, and {size} came")
