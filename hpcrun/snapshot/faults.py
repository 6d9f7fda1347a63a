"""What an OSError of a file system means to a user."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from hpcrun.errors import HpcrunError

_HINTS = {
    errno.ENOSPC: "the file system is full: free space",
    errno.EDQUOT: "your quota is used up: free space",
    errno.EROFS: "the file system is read-only here",
    errno.EACCES: "you have no right to it",
    errno.EPERM: "you have no right to it",
    errno.ESTALE: "the file server lost the file: try again",
}
_TRANSIENT = frozenset({errno.ESTALE, errno.EINTR, errno.EAGAIN, errno.ETIMEDOUT})


@contextmanager
def told(kind: type[HpcrunError], doing: str) -> Iterator[None]:
    """Turns an OSError inside into an error of that kind, which says what was being done."""
    try:
        yield
    except OSError as error:
        words = os.strerror(error.errno) if error.errno else str(error)
        hint = _HINTS.get(error.errno or 0, "")
        raise kind(f"cannot {doing}: {words}", hint, error.errno in _TRANSIENT) from error
