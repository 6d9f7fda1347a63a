"""Following a run's logs by byte offset: what was read once is never read again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from hpcrun.layout import Attempt, RunPaths
from hpcrun.record import RunRecord
from hpcrun.store.plain import open_plain

CHUNK = 1 << 20

LINE = 4 << 20
"""Bytes of an unfinished line that are kept at most, where lines of ranks are told apart."""


class Source(NamedTuple):
    """A log file, and the prefix of the lines that belong to the rank (empty: all of them)."""

    path: Path
    prefix: bytes = b""


def log_source(paths: RunPaths, attempt: Attempt, rank: int) -> Source | None:
    """Where a rank's output is: its own file, or its lines in its node's file (over 64 ranks)."""
    own = Path(paths.rank_log(attempt, rank))
    if own.exists():
        return Source(own)
    prefix = b"[%d] " % rank
    for path in sorted(Path(paths.attempt_logs(attempt)).glob("node-*.log")):
        with open_plain(path) as file:
            if _has_line(file, prefix):
                return Source(path, prefix)
    return None


def _has_line(file: BinaryIO, prefix: bytes) -> bool:
    """Whether a line begins so."""
    before = b"\n"
    for _, chunk in _chunks(file, 0):
        if b"\n" + prefix in before + chunk:
            return True
        before = (before + chunk)[-len(prefix) :]
    return False


def _chunks(file: BinaryIO, offset: int) -> Iterator[tuple[int, bytes]]:
    """(the offset behind it, what stands there); a hole that is longer is passed over."""
    while True:
        size = os.fstat(file.fileno()).st_size
        try:
            data = os.lseek(file.fileno(), offset, os.SEEK_DATA)
        except OSError:  # nothing but a hole follows
            data = size
        if data - offset > CHUNK:
            offset = data
        file.seek(offset)
        chunk = file.read(CHUNK)
        if not chunk:
            return
        offset += len(chunk)
        yield offset, chunk


def batch_source(paths: RunPaths, attempt: Attempt) -> Source | None:
    """The batch-level output: Slurm's own file."""
    path = Path(paths.batch_log(attempt.submission))
    return Source(path) if path.exists() else None


def rank_logs(paths: RunPaths, attempt: Attempt) -> list[str]:
    """The names of an attempt's log files, rank 0's first."""
    try:
        names = os.listdir(paths.attempt_logs(attempt))
    except OSError:
        return []
    return sorted(names, key=lambda name: (len(name), name))


class Tail:
    """A position in a log. It opens the file anew for each look, as network file systems need."""

    def __init__(self, source: Source, offset: int = 0) -> None:
        self.source = source
        self.offset = offset
        self.begin = offset
        """What comes next begins here: an unfinished line, where lines are told apart."""
        self._rest = b""

    def read(self) -> Iterator[bytes]:
        """What was added since the last look; a log that was cut begins anew."""
        try:
            file = open_plain(self.source.path)
        except FileNotFoundError:
            return  # the script may remove its logs
        with file:
            if os.fstat(file.fileno()).st_size < self.offset:
                self.offset, self.begin, self._rest = 0, 0, b""
            for offset, chunk in _chunks(file, self.offset):
                self.offset = offset
                unfinished = len(chunk) - chunk.rfind(b"\n") - 1 if self.source.prefix else 0
                if unfinished < len(chunk):
                    self.begin = offset - unfinished
                wanted = self._wanted(chunk)
                if wanted:
                    yield wanted

    def _wanted(self, chunk: bytes) -> bytes:
        if not self.source.prefix:
            return chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._rest = self._rest[:LINE]
        prefix = self.source.prefix
        return b"".join(line[len(prefix) :] + b"\n" for line in lines if line.startswith(prefix))


class Follower:
    """A log through all attempts of a run, from the newest one at the first look.

    find: a log of an attempt, if there is one yet; told whether it was the last one and has ended.
    attempt: the one to begin with, if not with the newest. offset: where its log begins.
    """

    def __init__(
        self,
        find: Callable[[Attempt, bool], Source | None],
        attempt: Attempt | None = None,
        offset: int = 0,
    ) -> None:
        self.shown: Attempt | None = None
        """The attempt whose log is read."""
        self.first = attempt
        """The one that it begins with; None until the first look, where it is the newest."""
        self._find = find
        self._offset = offset
        self._tail: Tail | None = None

    @property
    def offset(self) -> int:
        """Where in the log of that attempt it goes on."""
        return self._offset if self._tail is None else self._tail.begin

    def read(self, record: RunRecord) -> Iterator[tuple[Source, bytes]]:
        """What was added since the last look, and whose log that is. record: read before."""
        if self._tail is not None:
            yield from self._read(self._tail)
        known = [attempt.attempt for attempt in record.attempts]
        self.first = self.first or known[-1]
        for number in [number for number in known if self._is_unseen(number, self.first)]:
            source = self._find(number, record.state.is_end and number == known[-1])
            if source is None:
                continue
            self.shown = number
            # The requeues of a job write to one batch log.
            if self._tail is None or source != self._tail.source:
                self._tail, self._offset = Tail(source, self._offset), 0
                yield from self._read(self._tail)

    def _is_unseen(self, number: Attempt, first: Attempt) -> bool:
        return number >= first if self.shown is None else number > self.shown

    def _read(self, tail: Tail) -> Iterator[tuple[Source, bytes]]:
        return ((tail.source, chunk) for chunk in tail.read())
