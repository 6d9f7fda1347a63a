"""What an OSError of a file system means to a user."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from hpcrun.errors import HpcrunError, StoreError

_HINTS = {
    errno.ENOSPC: "the file system is full: free space",
    errno.EDQUOT: "your quota is used up: free space",
    errno.EROFS: "the file system is read-only here",
    errno.EACCES: "you have no right to it",
    errno.EPERM: "you have no right to it",
    errno.ESTALE: "the file server lost the file: try again",
}
_ELSEWHERE = "choose another workspace"
_OF_STORE = {
    **_HINTS,
    errno.ENOSPC: f"{_HINTS[errno.ENOSPC]}, or {_ELSEWHERE}",
    errno.EDQUOT: f"{_HINTS[errno.EDQUOT]}, or {_ELSEWHERE}",
    errno.EROFS: f"{_HINTS[errno.EROFS]}: {_ELSEWHERE}",
    errno.EACCES: f"{_HINTS[errno.EACCES]}: {_ELSEWHERE}",
    errno.EPERM: f"{_HINTS[errno.EPERM]}: {_ELSEWHERE}",
    errno.EEXIST: f"a file stands where a folder should be: {_ELSEWHERE}",
    errno.ENOTDIR: f"a file stands where a folder should be: {_ELSEWHERE}",
    errno.ELOOP: "a link stands where a file should be, and is not followed",
    errno.ENOENT: "run `hpcrun doctor` to see which folder is missing",
}
_TRANSIENT = frozenset({errno.ESTALE, errno.EINTR, errno.EAGAIN, errno.ETIMEDOUT})


@contextmanager
def told(doing: str, kind: type[HpcrunError] = StoreError) -> Iterator[None]:
    """Turns an OSError inside into an error of that kind, which says what was being done."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        words = os.strerror(number) if number else str(error)
        file = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        where = f" ({file})" if file and file not in doing else ""
        hint = (_OF_STORE if kind is StoreError else _HINTS).get(number, "")
        raise kind(f"cannot {doing}: {words}{where}", hint, number in _TRANSIENT) from error
