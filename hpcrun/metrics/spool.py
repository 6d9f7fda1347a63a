"""Where the facts of a logging process go. Standard library only (Python 3.8+).

They go to the spool on the node, from where the agent brings them to the record; without a spool
straight to the record. One file for metrics, one for images and one for the rest, and one writer:
`rank-<rank>-<attempt>-<host>-<pid>`. A process that was forked begins files of its own.

A failing file system (full, over quota, gone, read-only) never raises here. What cannot be written
waits in memory, in order, and is tried again with the next fact. Where a spool stays unwritable, a
flush, the exit, or WAITING_LIMIT facts in memory make the record take over, under `<writer>-late`.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import stat
import threading
import time
from collections import deque
from typing import Any, Deque, Dict, List, Mapping, NamedTuple, Optional, Tuple

from hpcrun.journal import Journal
from hpcrun.layout import ARTIFACTS_SUFFIX, JOURNAL_SUFFIX, METRICS_SUFFIX, SUFFIX_OF_KIND
from hpcrun.metrics.context import Context
from hpcrun.metrics.line import MetricLines
from hpcrun.record import Fact, encode
from hpcrun.rights import kept_to

WAITING_LIMIT = 100_000
"""Facts that one file may hold in memory; more are dropped and counted."""

IMAGES_LIMIT = 20
"""The same, of images."""

FIRST_LOOK, LAST_LOOK = 0.02, 0.5
"""Seconds between two looks at the record while flushing: they grow from one to the other."""

_log = logging.getLogger("hpcrun")


class Entry(NamedTuple):
    """A fact before it has a number."""

    kind: str
    data: Mapping[str, Any]
    time: float


class LateJournal(Journal):
    """A journal of what is told after the run's end: each fact goes straight to the record.

    The run may be sealed between two of them: then the record's folder is another one.
    """

    def next_number(self) -> int:
        try:
            return super().next_number()
        except FileNotFoundError:
            folder = os.path.dirname(self.path)
            with kept_to(folder):
                os.mkdir(folder)
            return super().next_number()

    def write(self, line: bytes) -> None:
        super().write(line)
        self.close()


class RecordFile:
    """One journal that outlives a full disk. Not thread safe.

    limit: the facts that may wait in memory. fallback: takes over for good when `settle` finds
    the journal unwritable. dropped: facts that found no place in memory either.
    """

    def __init__(self, journal: Journal, limit: int, fallback: Optional[Journal] = None) -> None:
        self.journal = journal
        self.limit = limit
        self.waiting: Deque[Entry] = deque()
        self.dropped = 0
        self.error: Optional[OSError] = None
        self._fallback = fallback
        self._lines = MetricLines(journal.attempt)

    def append(self, kind: str, data: Mapping[str, Any]) -> None:
        """Writes a fact, or keeps it."""
        entry = Entry(kind, data, time.time())
        if self.waiting:
            self._keep(entry)
            self.retry()
            return
        try:
            self._put(entry)
        except OSError as error:
            self.error = error
            self._keep(entry)

    def retry(self) -> bool:
        """Writes what waits, as far as it goes; tells whether nothing waits any more."""
        try:
            while self.waiting:
                self._put(self.waiting[0])
                self.waiting.popleft()
        except OSError as error:
            self.error = error
        return not self.waiting

    def settle(self) -> bool:
        """Like `retry`, and goes over to the fallback where that does not help."""
        if self.retry() or self._fallback is None:
            return not self.waiting
        self.go_over(self._fallback)
        return self.retry()

    def go_over(self, journal: Journal) -> None:
        """Writes to another journal from now on."""
        self.close()
        self.journal, self._fallback = journal, None

    def close(self) -> None:
        """Closes the journal."""
        try:
            self.journal.close()
        except OSError as error:
            self.error = error

    def _put(self, entry: Entry) -> None:
        number = self.journal.next_number()
        line = None
        if entry.kind == "metric":
            line = self._lines.scalar(entry.time, number, entry.data)
        if line is None:
            attempt = self.journal.attempt
            line = encode(Fact(entry.kind, attempt, entry.time, number, entry.data))
        self.journal.write(line)

    def _keep(self, entry: Entry) -> None:
        if len(self.waiting) >= self.limit and not self.settle():
            self.dropped += 1
        else:
            self.waiting.append(entry)


class Files(NamedTuple):
    """The files of a writer; each is made by its first fact."""

    facts: RecordFile
    metrics: RecordFile
    artifacts: RecordFile

    def of(self, kind: str) -> RecordFile:
        """The file for facts of a kind."""
        suffix = SUFFIX_OF_KIND.get(kind)
        if suffix == METRICS_SUFFIX:
            return self.metrics
        return self.artifacts if suffix == ARTIFACTS_SUFFIX else self.facts


class Recorder:
    """The writer of this process for one run. Thread safe; no method raises OSError."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.RLock()
        self._files: Optional[Files] = None
        self._warned = False

    def append(self, kind: str, data: Mapping[str, Any]) -> None:
        """Records a fact: when it returns, the fact is in the kernel's keeping, or waits here."""
        with self._lock:
            files = self._files or self._begin()
            file = files.of(kind)
            file.append(kind, data)
            if file.waiting and not self._warned:
                self._warn(file)
            if file.dropped:
                self._tell_loss(file)

    def flush(self, timeout: float) -> bool:
        """Waits until the record holds all facts so far; tells whether it does. timeout: s."""
        with self._lock:
            settled = [file.settle() and self._sync(file) for file in self._files or ()]
            sizes = {f.journal.path: _size(f.journal.path) for f in self._files or ()}
        return all(settled) and self._mirrored(sizes, time.monotonic() + timeout)

    def leave_spool(self) -> None:
        """The run has ended, and nobody brings what is told from now on: it goes to the record."""
        with self._lock:
            files, attempt = self._files or self._begin(), self._context.attempt
            files.facts.go_over(LateJournal(self._late_path(JOURNAL_SUFFIX), attempt))
            files.metrics.go_over(LateJournal(self._late_path(METRICS_SUFFIX), attempt))
            files.artifacts.go_over(LateJournal(self._late_path(ARTIFACTS_SUFFIX), attempt))

    def close(self) -> None:
        """Writes what waits and closes the files; says what is lost."""
        with self._lock:
            for file in self._files or ():
                lost = 0 if file.settle() else len(file.waiting)
                if lost + file.dropped:
                    _log.error(
                        "hpcrun: %d records of run %s are lost: %s",
                        lost + file.dropped,
                        self._context.run_id,
                        file.error,
                    )
                file.close()

    def begin_anew(self) -> None:
        """In a forked child: the parent's lock, files and waiting facts are the parent's."""
        files, self._files = self._files, None
        self._lock = threading.RLock()
        for file in files or ():
            file.close()

    def folders(self) -> List[str]:
        """Where journals of this run may lie, as seen from here."""
        spool = self._context.spool
        return [self._context.record, *([spool] if spool and _is_ours(spool) else [])]

    def _begin(self) -> Files:
        context = self._context
        if context.offline:
            _begin_offline(context)
        spool = context.spool if context.spool and _make(context.spool) else None
        self._files = Files(
            self._open(spool, JOURNAL_SUFFIX, WAITING_LIMIT),
            self._open(spool, METRICS_SUFFIX, WAITING_LIMIT),
            self._open(spool, ARTIFACTS_SUFFIX, IMAGES_LIMIT),
        )
        return self._files

    def _open(self, spool: Optional[str], suffix: str, limit: int) -> RecordFile:
        record, attempt = self._context.record, self._context.attempt
        writer = writer_name(self._context)
        if spool is None:
            return RecordFile(Journal(os.path.join(record, writer + suffix), attempt), limit)
        return RecordFile(
            Journal(os.path.join(spool, writer + suffix), attempt),
            limit,
            Journal(self._late_path(suffix), attempt),
        )

    def _late_path(self, suffix: str) -> str:
        """Where the record takes over from the spool."""
        return os.path.join(self._context.record, f"{writer_name(self._context)}-late{suffix}")

    def _sync(self, file: RecordFile) -> bool:
        """Waits for the disk, if the journal lies in the record itself."""
        if os.path.dirname(file.journal.path) != self._context.record:
            return True
        try:
            file.journal.sync()
        except OSError as error:
            file.error = error
            return False
        return True

    def _mirrored(self, sizes: Mapping[str, int], until: float) -> bool:
        pause = FIRST_LOOK
        for path, size in sizes.items():
            mirror = os.path.join(self._context.record, os.path.basename(path))
            while _size(mirror) < size:
                if time.monotonic() >= until:
                    return False
                time.sleep(pause)
                pause = min(pause * 1.5, LAST_LOOK)
        return True

    def _warn(self, file: RecordFile) -> None:
        self._warned = True
        _log.warning(
            "hpcrun: %s cannot be written (%s); records are kept in memory and tried again",
            file.journal.path,
            file.error,
        )

    def _tell_loss(self, file: RecordFile) -> None:
        """Once facts are written again, the history tells how many were dropped."""
        if file.waiting or self._files is None:
            return
        count, file.dropped = file.dropped, 0
        where = f"{os.uname().nodename}, process {os.getpid()}"
        self._files.facts.append("loss", {"count": count, "where": where})


_recorders: Dict[Tuple[object, ...], Recorder] = {}


def recorder_of(context: Context) -> Recorder:
    """The one recorder of this process for a run and rank: a file has one writer."""
    target = (context.record, context.spool, context.attempt, context.ranks.rank)
    return _recorders.setdefault(target, Recorder(context))


def writer_name(context: Context) -> str:
    """The name of this process as a writer."""
    host = os.uname().nodename.split(".")[0] or "unknown"
    return f"rank-{context.ranks.rank}-{context.attempt}-{host}-{os.getpid()}"


def _close_all() -> None:
    for recorder in _recorders.values():
        recorder.close()


def _begin_all_anew() -> None:
    for recorder in _recorders.values():
        recorder.begin_anew()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_begin_all_anew)


def _make(folder: str) -> bool:
    """Makes the folder if it is absent; tells whether it is a folder of this user."""
    try:
        os.mkdir(folder, 0o700)
    except OSError:
        pass  # what matters is what stands there now
    return _is_ours(folder)


def _is_ours(folder: str) -> bool:
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _begin_offline(context: Context) -> None:
    """The folder of an offline run, with its run.json: readers find what they find of any run."""
    request = {
        "run_id": context.run_id,
        "experiment": context.experiment,
        "user": str(os.geteuid()),
        "target": "offline",
        "created": time.time(),
    }
    try:
        os.makedirs(context.record, exist_ok=True)
        path = os.path.join(context.record, "run.json")
        with open(path, "x", encoding="utf-8") as file:
            json.dump(request, file)
    except OSError:
        pass  # another process of the run was first, or the journals will tell the error


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
