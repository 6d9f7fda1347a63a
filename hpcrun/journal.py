"""Appending facts to a journal. Standard library only (Python 3.8+).

One writer per file, one `write` per fact, no lock. What `append` has returned from survives the
death of the process; what `sync` has returned from survives the loss of the machine's power.
"""

from __future__ import annotations

import os
import time
from typing import Any, Mapping, Optional

from hpcrun.layout import Attempt
from hpcrun.record import Fact, encode


class Journal:
    """A journal that this process alone writes. The file is made by the first fact."""

    def __init__(self, path: str, attempt: Attempt) -> None:
        self.path = path
        self.attempt = attempt
        self._descriptor: Optional[int] = None
        self._number = 0

    def append(
        self, kind: str, data: Optional[Mapping[str, Any]] = None, sync: bool = False
    ) -> Fact:
        """Writes one fact. sync: also wait until the file system has it. Raises OSError."""
        if self._descriptor is None:
            self._descriptor = self._open()
        self._number += 1
        fact = Fact(kind, self.attempt, time.time(), self._number, data or {})
        _write_all(self._descriptor, encode(fact))
        if sync:
            os.fsync(self._descriptor)
        return fact

    def sync(self) -> None:
        """Waits until the file system has all that was appended."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Closes the file; a later append opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        """Opens to append; a torn last line of an earlier process is closed with a newline."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        size = os.fstat(descriptor).st_size
        if size:
            if os.pread(descriptor, 1, size - 1) != b"\n":
                _write_all(descriptor, b"\n")
            self._number = max(self._number, size)
        return descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
