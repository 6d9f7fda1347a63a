"""Taking turns among a user's own processes on a host: a courtesy, on which nothing depends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hpcrun.saying import say_on_stderr

LONG = 3600.0
"""Seconds after which nobody is waited for any more: a lost host may keep its lock for ever."""


@contextmanager
def alone(
    path: str | Path, say: Callable[[str], object] = say_on_stderr, patience: float = LONG
) -> Iterator[None]:
    """Waits for its turn at a lock file, whose folder is made if it is not there.

    say: hears that it waits; default: standard error, which also hears where no lock can be had, as
    on a file system without locks: nobody is waited for then. patience: seconds.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, mode=0o600, fallback_to_soft=False)
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        say("waiting for another process that does the same")
        try:
            lock.acquire(timeout=patience)
        except Timeout:
            say_on_stderr(f"not waiting any more for who has {path}: its host may be lost")
    except (OSError, NotImplementedError) as error:
        say_on_stderr(f"no lock on {path}: {error}")
    try:
        yield
    finally:
        lock.release()
