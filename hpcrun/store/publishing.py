"""Files that are whole from their first moment: written aside, then given a name that was free."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from hpcrun.durable import sync_folder, write_new

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
"""What file systems without hard links answer."""


def publish(path: Path, data: bytes, verify: Callable[[Path], None]) -> bool:
    """Writes a new file; False if the name is taken. verify: raises if the bytes are not right.

    The name is there when all of it is on the disk. OSError.
    """
    written = aside(path)
    try:
        write_new(written, data)
        verify(written)
        is_new = take_name(written, path)
    finally:
        written.unlink(missing_ok=True)
    sync_folder(path.parent)
    return is_new


def replace(path: Path, data: bytes, mode: int | None = None) -> None:
    """Writes a file whole, in place of one that has its name. OSError.

    mode: its rights; None: as for any new file.
    """
    written = aside(path)
    try:
        write_new(written, data)
        if mode is not None:
            written.chmod(mode)
        written.rename(path)
    finally:
        written.unlink(missing_ok=True)
    sync_folder(path.parent)


def aside(path: Path) -> Path:
    """A hidden name beside a path, that nobody else has."""
    host = os.uname().nodename
    return path.with_name(f".{path.name}.{host}.{os.getpid()}.{os.urandom(4).hex()}")


def take_name(written: Path, path: Path) -> bool:
    """Gives a file a name; False if that is taken. The old one may stay. OSError."""
    try:
        path.hardlink_to(written)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            return False
        written.rename(path)
    return True
