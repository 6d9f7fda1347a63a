"""The companion of a process with interactive runs. Standard library only (Python 3.8+).

A process of its own, so that a long call in the interpreter holds nothing back and a crash of it
is seen: it tells that the runs are alive, brings their spools to their records, and tells their
end where the interpreter has gone without doing so. It hears JSON on its standard input, one
object a line:

    {"begin": run id, "beats": true, "spool": ..., "record": ..., "attempt": "1.0"}
                            keep it; beats: it has begun (it may be said again)
    {"finish": run id}      its end is told: bring the rest and let it go

The end of the input, or of the parent, means that the interpreter is gone.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from typing import Any, Dict, List, Mapping, Optional

from hpcrun.agent import spool
from hpcrun.agent.spool import Mirror
from hpcrun.agent.witness import Witness
from hpcrun.errors import StoreError
from hpcrun.journal import Journal
from hpcrun.layout import JOURNAL_SUFFIX, Attempt, JournalKind, journal_kind
from hpcrun.record import decode_page
from hpcrun.rights import umask_of

PAUSE = 0.25
"""Seconds between two looks at the spools."""

SYNC_PAUSE = 2.0
"""Seconds between two syncs of what was brought."""

BEAT = 30.0
"""Seconds between two heartbeats."""

PATIENCE = 30.0
"""Seconds for which the rest of a run is tried to be brought once its interpreter is gone."""

LEFT = "the interpreter ended without complete() or fail()"


def main() -> None:
    """Keeps the runs of the process that started this one, until the last has ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    Companion(int(sys.argv[2])).keep()


class Companion:
    """Keeps the runs of one interpreter. parent: its pid."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._runs: Dict[str, KeptRun] = {}
        self._rest = b""

    def keep(self) -> None:
        """Runs until the interpreter is gone, and what it left is told and brought."""
        while self._listen() and os.getppid() == self._parent:
            for run_id in [name for name, run in self._runs.items() if run.look()]:
                del self._runs[run_id]
        deadline = time.monotonic() + PATIENCE
        for run in self._runs.values():
            run.abandon()
        while self._runs and time.monotonic() < deadline:
            self._runs = {name: run for name, run in self._runs.items() if not run.look()}
            time.sleep(PAUSE)
        for run in self._runs.values():
            run.tell_loss()

    def _listen(self) -> bool:
        """Hears what is said in the next PAUSE; whether the interpreter is still there."""
        if not select.select([0], (), (), PAUSE)[0]:
            return True
        said = os.read(0, 65536)
        *lines, self._rest = (self._rest + said).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))
        return bool(said)

    def _hear(self, word: Mapping[str, Any]) -> None:
        if "begin" in word:
            if word["begin"] not in self._runs:
                kept = KeptRun(word["spool"], word["record"], word["attempt"])
                self._runs[word["begin"]] = kept
            self._runs[word["begin"]].beats = word["beats"]
        elif word["finish"] in self._runs:
            self._runs[word["finish"]].finishing = True


class KeptRun:
    """One interactive run. beats: it has begun. finishing: its end is told."""

    def __init__(self, spool_folder: str, record: str, attempt: str) -> None:
        self.beats = self.finishing = False
        self._drained_is_told = False
        self._spool = spool_folder
        self._host = os.uname().nodename
        writer = f"companion-{self._host.split('.')[0]}-{os.getpid()}"
        path = os.path.join(record, writer + JOURNAL_SUFFIX)
        self._witness = Witness(Journal(path, Attempt.parse(attempt)))
        self._mirror = Mirror(spool_folder, record)
        self._umask = umask_of(record)
        self._next_beat = self._next_sync = 0.0
        try:
            spool.prepare(spool_folder)
        except StoreError as error:
            self._witness.tell("problem", {"message": error.message})

    def look(self) -> bool:
        """Brings what is new; whether it has ended and all is brought."""
        now = time.monotonic()
        os.umask(self._umask)
        if self.beats and now >= self._next_beat and not self.finishing:
            self._next_beat = now + BEAT
            # A count that only grows, also from one companion to the next.
            self._witness.tell("heartbeat", {"count": int(time.time())})
        self._mirror.advance()
        if self.finishing or now >= self._next_sync:
            self._next_sync = now + SYNC_PAUSE
            if self._mirror.error is None:
                self._mirror.sync()
        return self.finishing and self._is_drained()

    def abandon(self) -> None:
        """Nobody will tell its end any more."""
        self._mirror.advance()  # an end without its beginning names no node to be drained
        if self.beats and not self._end_is_told():
            end = {"exit_code": None, "signal": None, "cause": "lost", "message": LEFT}
            self._witness.tell("ended", end)
        self.finishing = True

    def tell_loss(self) -> None:
        """What could not be brought stays in the spool."""
        where = f"{self._host}:{self._spool}"
        self._witness.tell("loss", {"count": self._mirror.missing(), "where": where})

    def _is_drained(self) -> bool:
        if self._mirror.error is not None or self._mirror.missing() or not self._witness.settle():
            return False
        self._mirror.close()
        if not self._drained_is_told:
            self._drained_is_told = True
            self._witness.tell("drained", {"host": self._host})
        if not self._witness.settle():
            return False
        try:
            spool.remove(self._spool)
        except OSError:
            pass  # all of it is in the record
        return True

    def _end_is_told(self) -> bool:
        for name in _names(self._spool):
            kind = journal_kind(name)
            if kind is not None and kind[1] is JournalKind.FACTS:
                content = _content(os.path.join(self._spool, name)) or b""
                if any(fact.kind == "ended" for fact in decode_page(content).facts):
                    return True
        return False


def _names(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _content(path: str) -> Optional[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
