"""Reading files that others may have put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from hpcrun.errors import StoreError
from hpcrun.faults import told


def open_plain(path: Path) -> BinaryIO:
    """A file to read. OSError, also for a link; StoreError for a pipe, without waiting for it."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise StoreError(f"{path} is not a plain file", "its owner may remove it")
    return file


def read_plain(path: Path) -> bytes:
    """All of a file. StoreError."""
    with told(f"read {path}"), open_plain(path) as file:
        return file.read()
