"""The folder of a command that is shown on another machine: made if it is needed, and gone when the
command has ended.

What is left of one that was killed, the next of its user on this host that makes one removes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from pathlib import Path

from hpcrun.errors import StoreError

OLD = 3600.0
"""Seconds since it was made after which a folder that no command holds is removed: a younger one
may not be held yet."""

_HELD = "held"


def named() -> Path:
    """The name of a new one, in $TMPDIR."""
    return Path(_above(), f"{_begin()}{os.urandom(8).hex()}")


def make(folder: Path) -> None:
    """Makes a folder that this process holds as long as it lives; again is nothing. StoreError."""
    if folder.is_dir():
        return
    _clear()
    try:
        folder.mkdir(mode=0o700)
        # Who opened it here and has ended, however, holds it no more.
        fcntl.flock(os.open(folder / _HELD, os.O_WRONLY | os.O_CREAT, 0o600), fcntl.LOCK_EX)
    except OSError as error:
        raise no_room(folder, error) from error


def no_room(folder: Path, error: OSError) -> StoreError:
    """What it means that it cannot be written."""
    why = os.strerror(error.errno) if error.errno else str(error)
    hint = f"free space on {_host()}, or set TMPDIR there to another folder"
    return StoreError(f"cannot write {folder} on {_host()}: {why}", hint)


def _clear() -> None:
    """Removes those of this user's commands on this host that were killed."""
    for folder in _above().glob(f"{_begin()}*"):
        try:
            found = folder.lstat()
        except OSError:
            continue
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if is_own and time.time() - found.st_mtime > OLD and not _is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_held(folder: Path) -> bool:
    """Whether a command lives whose folder it is; also where that cannot be known."""
    try:
        held = os.open(folder / _HELD, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(held)
    return False


def _above() -> Path:
    return Path(os.environ.get("TMPDIR") or "/tmp")


def _host() -> str:
    return os.uname().nodename


def _begin() -> str:
    """Folders of other hosts may lie there too: who lives on those is not seen from here."""
    return f"hpcrun-on-{_host()}-"
