"""Taking turns among a user's own processes on a host: a courtesy, on which nothing depends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def _tell(text: str) -> None:
    sys.stderr.write(f"hpcrun: {text}\n")


@contextmanager
def alone(path: str | Path, say: Callable[[str], object] = _tell) -> Iterator[None]:
    """Waits for its turn at a lock file, whose folder is made if it is not there.

    say: hears that it waits; default: standard error, which also hears where no lock can be had, as
    on a file system without locks: nobody is waited for then.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o600, fallback_to_soft=False)
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        say("waiting for another process that does the same")
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        _tell(f"no lock on {path}: {error}")
    try:
        yield
    finally:
        lock.release()
