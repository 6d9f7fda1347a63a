"""What the run's journals already hold of its metric files. Standard library only (Python 3.8+).

Points are written in batches: a fact `followed`, then as many facts `metric` as it says. So the
journals themselves tell where to go on, whoever followed a file and whenever he was killed:

    file            its path in the job's folder
    turn            which batch of this file it is, from 1
    from, to        the bytes that were read
    points          how many points of them are new: the metric facts that follow
    sum             of what stood before `to` (see `mark`)
    inode           by which a file is known again that was given another name
    again           the file was written anew: points that the journals hold are not new
    skipped         how many things of which kind were no points
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from hpcrun.agent.follow.patterns import group_of
from hpcrun.layout import Attempt, JournalKind, journal_kind
from hpcrun.record import Fact, decode

SAMPLE = 256
"""The bytes at each end by which a file's beginning is known again."""


class Mark(NamedTuple):
    """The beginning of a file: its length, and a sum of what it holds."""

    length: int
    sum: int


def mark(descriptor: int, length: int) -> Mark:
    """The mark of a file's first bytes. OSError."""
    head = os.pread(descriptor, min(SAMPLE, length), 0)
    tail = os.pread(descriptor, min(SAMPLE, length), length - min(SAMPLE, length))
    return Mark(length, zlib.crc32(tail, zlib.crc32(head)))


class Cursor(NamedTuple):
    """How far a file was followed. skip: points behind `mark` that are written already."""

    mark: Mark = Mark(0, 0)
    turn: int = 0
    skip: int = 0
    again: bool = False
    inode: int = 0


def cursors(record: str) -> Dict[str, Cursor]:
    """path → how far the file was followed. OSError."""
    batches: Dict[str, _Batch] = {}
    for path in _journals(record):
        for batch in _batches(path):
            known = batches.get(batch.head["file"])
            if known is None or known.rank < batch.rank:
                batches[batch.head["file"]] = batch
    return {path: batch.cursor for path, batch in batches.items()}


def points(record: str, group: str) -> "Counter[int]":
    """How often the journals hold which point of a group of files, by `key`. OSError."""
    found: "Counter[int]" = Counter()
    for path in _journals(record):
        inside = False
        for fact in _facts(path):
            if fact.kind == "followed":
                inside = group_of(fact.data["file"]) == group
            elif inside and fact.kind == "metric":
                found[key(fact.data["m"], fact.data.get("s"), fact.data["v"])] += 1
    return found


def key(name: str, step: Optional[int], value: Any) -> int:
    """What makes two points the same, in this process."""
    return hash((name, step, repr(value)))


def marks(record: str) -> Dict[Attempt, Mapping[str, Mark]]:
    """attempt → path → what stood in the file before the attempt's command began. OSError."""
    found: Dict[Attempt, Mapping[str, Mark]] = {}
    for name in os.listdir(record):
        if name.startswith("agent-") and journal_kind(name) is not None:
            for fact in _facts(os.path.join(record, name)):
                if fact.kind == "metric_files":
                    told = fact.data["marks"].items()
                    found[fact.attempt] = {path: Mark(*pair) for path, pair in told}
    return found


def attempts(record: str) -> List[Attempt]:
    """The attempts that have begun, by the journals of their agents. OSError."""
    names = [name for name in os.listdir(record) if name.startswith("agent-")]
    kinds = [journal_kind(name) for name in names]
    return [Attempt.parse(kind[0][len("agent-") :]) for kind in kinds if kind is not None]


class _Batch(NamedTuple):
    """A batch, and how many of its points are there."""

    head: Mapping[str, Any]
    attempt: Attempt
    there: int

    @property
    def rank(self) -> Tuple[int, Attempt, int]:
        """Greater is later."""
        return self.head["turn"], self.attempt, self.there

    @property
    def cursor(self) -> Cursor:
        head = self.head
        again, turn = bool(head.get("again")), head["turn"]
        if again:
            # From the beginning: the points themselves tell which are written.
            return Cursor(Mark(0, 0), turn, 0, True, head["inode"])
        if self.there < head["points"]:
            before = Mark(head["from"], head["before"])
            return Cursor(before, turn, head["skip"] + self.there, False, head["inode"])
        return Cursor(Mark(head["to"], head["sum"]), turn, 0, False, head["inode"])


def _journals(record: str) -> Iterator[str]:
    for name in sorted(os.listdir(record)):
        kind = journal_kind(name)
        # What ranks log themselves is no file's, and may be long.
        if kind is not None and kind[1] is JournalKind.METRICS and not name.startswith("rank-"):
            yield os.path.join(record, name)


def _batches(path: str) -> Iterator[_Batch]:
    batch: Optional[_Batch] = None
    with open(path, "rb") as file:
        for line in file:
            if line.startswith(b'{"k":"metric"', 9):
                if batch is not None and _is_whole(line):
                    batch = batch._replace(there=batch.there + 1)
            elif line.startswith(b'{"k":"followed"', 9):
                fact = decode(line)
                if fact is not None:
                    if batch is not None:
                        yield batch
                    batch = _Batch(fact.data, fact.attempt, 0)
    if batch is not None:
        yield batch


def _is_whole(line: bytes) -> bool:
    """Whether a line of a journal is no torn one, without decoding it."""
    try:
        return line.endswith(b"\n") and int(line[:8], 16) == zlib.crc32(line[9:-1])
    except ValueError:
        return False


def _facts(path: str) -> Iterator[Fact]:
    with open(path, "rb") as file:
        for line in file:
            fact = decode(line) if line.endswith(b"\n") else None  # as readers do
            if fact is not None:
                yield fact
