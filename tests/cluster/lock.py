"""What only one process on this machine does at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.failure import ClusterError


@contextlib.contextmanager
def alone(name: str, refusal: ClusterError | None = None) -> Iterator[None]:
    """One process at a time for each name. Others wait, or get the refusal if there is one."""
    path = Path(f"/run/hpcrun-cluster-{name}.lock")
    while True:
        with path.open("a") as file:
            try:
                # The lock of a process that was killed is gone.
                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if refusal else 0))
            except BlockingIOError:
                assert refusal is not None
                raise refusal from None
            if not _is(path, file.fileno()):
                continue
            try:
                yield
                return
            finally:
                path.unlink(missing_ok=True)


def _is(path: Path, descriptor: int) -> bool:
    """Whether this is the open file still: who had the lock before may have removed it."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
