"""Telling facts, whatever the file system does. Standard library only (Python 3.8+)."""

from __future__ import annotations

import os
import time
from typing import Any, List, Mapping, Optional

from hpcrun.journal import Journal
from hpcrun.record import Fact, encode


def say(sentence: str) -> None:
    """A line in the batch log, if its file system takes it."""
    try:
        os.write(2, f"hpcrun: {sentence}\n".encode("utf-8", "surrogateescape"))
    except OSError:
        pass  # it may be as full as the record's


class Witness:
    """Tells facts to a journal. What cannot be written waits in memory, in order.

    So does what was written and could not be synced: a network file system tells of a failed write
    as late as that, and the client that held it may be gone.

    No method raises OSError. error: what the last failed attempt ended with.
    """

    def __init__(self, journal: Journal) -> None:
        self.error: Optional[OSError] = None
        self._journal = journal
        self._waiting: List[Fact] = []
        self._unsafe: List[Fact] = []
        self._again = False

    def tell(self, kind: str, data: Optional[Mapping[str, Any]] = None, sync: bool = True) -> None:
        """Tells a fact. sync: also wait until the file system has it."""
        self._waiting.append(Fact(kind, self._journal.attempt, time.time(), 0, data or {}))
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
        if self._unsafe:
            try:
                self._journal.sync()
            except OSError as error:
                self.error = error
                self._take_back()
                return False
            self._unsafe.clear()
        return True

    def _write(self) -> bool:
        try:
            if self._again:
                self._leave_out_what_is_there()
            while self._waiting:
                fact = self._waiting[0]
                if not fact.number:
                    fact = fact._replace(number=self._journal.next_number())
                self._journal.write(encode(fact))
                self._unsafe.append(fact)
                self._waiting.pop(0)
        except OSError as error:
            self.error = error
            return False
        return True

    def _take_back(self) -> None:
        """What a failed sync may have lost is told again, as the same facts."""
        self._journal.abandon()
        self._waiting[:0] = self._unsafe
        self._unsafe.clear()
        self._again = True

    def _leave_out_what_is_there(self) -> None:
        """Of what is told again: some of it may have come, and nothing is told twice. OSError."""
        try:
            with open(self._journal.path, "rb") as journal:
                there = set(journal.read().splitlines(True))
        except FileNotFoundError:
            there = set()
        self._waiting = [fact for fact in self._waiting if encode(fact) not in there]
        self._again = False
