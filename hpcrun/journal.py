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
        number = self.next_number()
        fact = Fact(kind, self.attempt, time.time(), number, data or {})
        self.write(encode(fact))
        if sync:
            self.sync()
        return fact

    def next_number(self) -> int:
        """The number of the next fact, for a writer that makes its lines itself. OSError."""
        if self._descriptor is None:
            self._descriptor = self._open()
        self._number += 1
        return self._number

    def write(self, line: bytes) -> None:
        """Writes one whole line that holds the newest number. OSError: a part may be written."""
        if self._descriptor is None:
            self._descriptor = self._open()
        try:
            _write_all(self._descriptor, line)
        except OSError:
            self.abandon()
            raise

    def sync(self) -> None:
        """Waits until the file system has all that was appended."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Closes the file; a later append opens it again."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)

    def abandon(self) -> None:
        """Closes after a failure: opening again puts a newline after a torn line."""
        try:
            self.close()
        except OSError:
            pass  # the write's own error is the one to tell

    def _open(self) -> int:
        """Opens to append; a torn last line is closed with a newline."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if size:
                if os.pread(descriptor, 1, size - 1) != b"\n":
                    _write_all(descriptor, b"\n")
                self._number = max(self._number, size)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
