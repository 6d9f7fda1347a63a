"""What an OSError of a file system means to a user."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from hpcrun.errors import StoreError

_HINTS = {
    errno.ENOSPC: "the file system is full: free space, or choose another workspace",
    errno.EDQUOT: "your quota is used up: free space, or choose another workspace",
    errno.EROFS: "the file system is read-only here: choose another workspace",
    errno.EACCES: "the folder is not yours to write: choose another workspace",
    errno.EPERM: "the folder is not yours to write: choose another workspace",
    errno.ESTALE: "the file server lost the file: try again",
    errno.EEXIST: "a file stands where a folder should be: choose another workspace",
    errno.ENOTDIR: "a file stands where a folder should be: choose another workspace",
    errno.ENOENT: "run `hpcrun doctor` to see which folder is missing",
}


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Turns an OSError inside into a StoreError that says what was being done."""
    try:
        yield
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, "")
        where = f" ({error.filename})" if error.filename else ""
        words = os.strerror(error.errno) if error.errno else str(error)
        raise StoreError(f"cannot {doing}: {words}{where}", hint) from error
