"""Who can read what is written: whoever the folder lets in below which it is written.

Standard library only (Python 3.8+). A user's folder in a workspace has the mode that the
workspace's policy says, and the one for private runs 0700. All that is made below follows, through
the umask, whatever the shell's is.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_asked: list[int] = []
_own = 0


def umask_of(folder: str) -> int:
    """The umask that gives new folders the rights of this one, or of what is above it. OSError."""
    while True:
        try:
            return ~os.stat(folder).st_mode & 0o777
        except FileNotFoundError:
            above = os.path.dirname(folder)
            if above in ("", folder):
                raise
            folder = above


def let_in(folder: str) -> None:
    """Lets all whom the folder above lets in read what is below one, as if it had been made there.

    What was copied there keeps the rights that it had elsewhere. OSError.
    """
    umask = umask_of(os.path.dirname(folder))
    for where, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            path = os.path.join(where, name)
            mode = os.lstat(path).st_mode
            for_reading = mode & 0o500
            more = (for_reading >> 3 | for_reading >> 6) & ~umask & ~mode
            if more and not stat.S_ISLNK(mode):
                os.chmod(path, stat.S_IMODE(mode) | more)


@contextlib.contextmanager
def kept_to(folder: str) -> Iterator[None]:
    """What this process makes inside can be read by whom the folder lets in. OSError.

    The umask is the whole process's: of two threads with two folders at one time, both keep to
    the narrower rights.
    """
    global _own
    umask = umask_of(folder)
    with _lock:
        before = os.umask(umask)
        if not _asked:
            _own = before
        _asked.append(umask)
        _apply()
    try:
        yield
    finally:
        with _lock:
            _asked.remove(umask)
            _apply()


def _apply() -> None:
    umask = 0
    for each in _asked:
        umask |= each
    os.umask(umask if _asked else _own)
