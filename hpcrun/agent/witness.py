"""Telling facts, whatever the file system does. Standard library only (Python 3.8+)."""

from __future__ import annotations

import os
import time
from typing import Any, List, Mapping, NamedTuple, Optional

from hpcrun.journal import Journal
from hpcrun.record import Fact, encode


def say(sentence: str) -> None:
    """A line in the batch log, if its file system takes it."""
    try:
        os.write(2, f"hpcrun: {sentence}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # it may be as full as the record's


class _Seen(NamedTuple):
    kind: str
    data: Mapping[str, Any]
    time: float


class Witness:
    """Tells facts to a journal. What cannot be written waits in memory, in order.

    No method raises OSError. error: what the last failed attempt ended with.
    """

    def __init__(self, journal: Journal) -> None:
        self.error: Optional[OSError] = None
        self._journal = journal
        self._waiting: List[_Seen] = []
        self._dirty = False

    def tell(self, kind: str, data: Optional[Mapping[str, Any]] = None, sync: bool = True) -> None:
        """Tells a fact. sync: also wait until the file system has it."""
        self._waiting.append(_Seen(kind, data or {}, time.time()))
        if sync:
            self.settle()
        else:
            self._write()

    def problem(self, message: str) -> None:
        """Tells what went wrong without ending anything."""
        self.tell("problem", {"message": message})

    def settle(self) -> bool:
        """Writes and syncs what waits; tells whether the file system has everything."""
        if not self._write():
            return False
        if self._dirty:
            try:
                self._journal.sync()
            except OSError as error:
                self.error = error
                return False
            self._dirty = False
        return True

    def _write(self) -> bool:
        try:
            while self._waiting:
                seen = self._waiting[0]
                number = self._journal.next_number()
                fact = Fact(seen.kind, self._journal.attempt, seen.time, number, seen.data)
                self._journal.write(encode(fact))
                self._dirty = True
                self._waiting.pop(0)
        except OSError as error:
            self.error = error
            return False
        return True
