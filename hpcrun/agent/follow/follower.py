"""Brings the points of metric files into the run's journal, each once. (Python 3.8+)

How far a file was followed is read from the journals, never kept elsewhere (see `recorded`). A
file whose beginning is no longer what was read was written anew: it is read from its beginning,
and points that the journals hold already are passed over.

What stood in a file before this attempt's command began is an earlier attempt's.
"""

from __future__ import annotations

import importlib
import os
import time
from functools import lru_cache
from typing import Any, Callable, Dict, List, Optional, Sequence, Set

from hpcrun.agent.follow import recorded
from hpcrun.agent.follow.opened import Opened, holds
from hpcrun.agent.follow.past import Past, Piece
from hpcrun.agent.follow.patterns import LIMIT, Found, Pattern, find
from hpcrun.agent.follow.points import Point, Reading
from hpcrun.agent.follow.recorded import Cursor, Mark
from hpcrun.journal import Journal
from hpcrun.layout import Attempt
from hpcrun.metrics.line import MetricLines
from hpcrun.record import Fact, encode

BLOCK = 1 << 18
"""Bytes that are read of a file before it is another's turn."""

LARGEST = 1 << 24
"""Bytes that one record, or a file that is always written as a whole, may have."""

BUDGET = 0.5
"""Seconds of one look, at most: the keeper has other things to do."""

_READERS = {
    "tensorboard": "event_file",
    "csv": "csv_file",
    "jsonl": "json_lines",
    "trainer_state": "trainer_state",
}


class Follower:
    """Follows the metric files of a run.

    root: the job's folder. record: the run's record. journal: where points go. tell: takes a
    problem, a sentence. error: what kept the last look from writing; None if nothing did.
    """

    def __init__(
        self,
        root: str,
        record: str,
        patterns: Sequence[Pattern],
        journal: Journal,
        tell: Callable[[str], None],
    ) -> None:
        self.error: Optional[OSError] = None
        self._root = root
        self._record = record
        self._patterns = patterns
        self._journal = journal
        self._tell = tell
        self._told: Set[str] = set()
        self._past: Optional[Past] = None
        self._seen: Dict[str, Sequence[int]] = {}
        self._dirty = False

    def look(self, final: bool = False) -> int:
        """Writes what is new, as far as the time reaches; gives the bytes that were read.

        final: nothing more is written to the files. It has read everything once it gives 0.
        """
        self.error = None
        total = 0
        end = time.monotonic() + BUDGET
        try:
            files = self._changed(final)
            while files and time.monotonic() < end:
                counts = [(self._advance(file, final), file) for file in files]
                total += sum(count for count, _ in counts)
                files = [file for count, file in counts if count]
        except OSError as error:
            self._fail(error)
        return total

    def sync(self) -> None:
        """Waits until the file system has what was written."""
        if self._dirty:
            try:
                self._journal.sync()
                self._dirty = False
            except OSError as error:
                self._fail(error)

    # -- which files --------------------------------------------------------------------------

    def _changed(self, final: bool) -> List[Found]:
        files = find(self._root, self._patterns)
        if len(files) > LIMIT:
            self._problem(f"{len(files)} metric files match, and {LIMIT} are followed")
        changed = [f for f in files[:LIMIT] if final or self._seen.get(f.path) != f.state]
        if not changed:
            return []
        past = self._known_past()
        if past.is_over(self._record):
            return []
        self._adopt(files, past)
        return changed

    def _known_past(self) -> Past:
        if self._past is None:
            self._journal.next_number()  # opens it, which ends a torn last line
            known = recorded.cursors(self._record)
            self._past = Past(known, recorded.marks(self._record), self._journal.attempt)
        return self._past

    def _adopt(self, files: Sequence[Found], past: Past) -> None:
        """A file of another name (rotated logs) goes on where it was under its old one."""
        by_inode = {c.inode: path for path, c in past.cursors.items() if c.mark.length}
        for file in files:
            old = by_inode.get(file.inode)
            if file.path in past.cursors or old is None or old == file.path:
                continue
            cursor = past.cursors[old]
            if holds(self._root, file.path, cursor.mark):
                past.cursors[file.path] = cursor._replace(again=False)
                past.cursors[old] = Cursor(turn=cursor.turn)

    # -- one file -----------------------------------------------------------------------------

    def _advance(self, file: Found, final: bool) -> int:
        """Reads a file's next piece; gives the bytes. OSError of the record only."""
        try:
            with Opened(self._root, file.path) as opened:
                piece = self._read(file, opened, final)
        except FileNotFoundError:
            return 0
        except OSError as error:
            self._problem(f"cannot read {file.path}: {error.strerror}")
            return 0
        if piece is None or not piece.reading.consumed:
            self._seen[file.path] = file.state
            return 0
        self._write(file, piece)
        return piece.reading.consumed

    def _read(self, file: Found, opened: Opened, final: bool) -> Optional[Piece]:
        if not opened.is_file:
            return None
        past = self._known_past()
        whole = file.format == "trainer_state"
        cursor = past.cursors.get(file.path, Cursor(again=whole))
        if whole and opened.holds(cursor.mark) and opened.size == cursor.mark.length:
            return None
        if whole or not opened.holds(cursor.mark):
            cursor = cursor._replace(mark=Mark(0, 0), skip=0, again=True)
            past.forget(file)
        if cursor.again and file.group not in past.points:
            past.points[file.group] = recorded.points(self._record, file.group)
        reading = self._reading(file, opened, cursor, final)
        if reading.problem and final:
            place = cursor.mark.length + reading.consumed
            self._problem(f"{file.path} cannot be read behind byte {place}: {reading.problem}")
        owners = past.owners(file, opened)
        return Piece(cursor, reading, opened.mark(cursor.mark.length + reading.consumed), owners)

    def _reading(self, file: Found, opened: Opened, cursor: Cursor, final: bool) -> Reading:
        place, rest = cursor.mark.length, opened.size - cursor.mark.length
        if file.format == "trainer_state" and rest > LARGEST:
            return Reading([], 0, {}, problem=f"{rest} bytes are more than {LARGEST}")
        size = LARGEST if file.format == "trainer_state" else BLOCK
        reading = _read(file, opened, place, size, final)
        while not reading.consumed and BLOCK < reading.wants <= LARGEST and size < rest:
            size = reading.wants
            reading = _read(file, opened, place, size, final)
        if not reading.consumed and reading.wants > LARGEST:
            if file.format == "tensorboard" and reading.wants <= rest:
                return Reading([], reading.wants, {"record that is too long": 1})
            return reading._replace(problem=f"a record is longer than {LARGEST} bytes")
        return reading

    # -- writing ------------------------------------------------------------------------------

    def _write(self, file: Found, piece: Piece) -> None:
        """One batch. After an error the journal tells how much of it was written. OSError."""
        past, cursor = self._known_past(), piece.cursor
        new = past.new(file, piece)
        attempt = self._journal.attempt
        head: Dict[str, Any] = {
            "file": file.path,
            "turn": cursor.turn + 1,
            "from": cursor.mark.length,
            "before": cursor.mark.sum,
            "skip": cursor.skip,
            "to": piece.mark.length,
            "sum": piece.mark.sum,
            "inode": file.inode,
            "points": len(new),
        }
        if cursor.again:
            head["again"] = True
        if piece.reading.skipped:
            head["skipped"] = piece.reading.skipped
        now = time.time()
        lines = [encode(Fact("followed", attempt, now, self._journal.next_number(), head))]
        for owner, point in new:
            number = self._journal.next_number()
            lines.append(_line(owner, point, file.prefix, number, now))
        self._dirty = True
        self._journal.write(b"".join(lines))
        past.cursors[file.path] = Cursor(piece.mark, cursor.turn + 1, 0, cursor.again, file.inode)

    def _fail(self, error: OSError) -> None:
        """What the journal holds now is for the journal to say."""
        self.error = error
        self._past = None
        self._seen = {}
        try:
            self._journal.close()
        except OSError:
            pass  # the first error is the one to tell

    def _problem(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._tell(sentence)


_lines = lru_cache(maxsize=8)(MetricLines)


def _line(owner: Attempt, point: Point, prefix: str, number: int, now: float) -> bytes:
    data: Dict[str, Any] = {"m": prefix + point.name, "v": point.value}
    if point.step is not None:
        data["s"] = point.step
    when = now if point.time is None else point.time
    line = _lines(owner).scalar(when, number, data)
    return line or encode(Fact("metric", owner, when, number, data))


def _read(file: Found, opened: Opened, place: int, size: int, final: bool) -> Reading:
    """Reads a piece with the file's reader, which is imported when the first file wants it."""
    read = importlib.import_module(f"hpcrun.agent.follow.{_READERS[file.format]}").read
    head = _header(opened) if file.format == "csv" and place else b""
    data = os.pread(opened.descriptor, size, place)
    last = final and place + len(data) >= opened.size
    reading: Reading = read(head + data, file.step, last)
    if not head:
        return reading
    points = [point._replace(end=point.end - len(head)) for point in reading.points]
    return reading._replace(points=points, consumed=reading.consumed - len(head))


def _header(opened: Opened) -> bytes:
    """The first row of a CSV file, if it is whole. OSError."""
    from hpcrun.agent.follow.csv_file import row_end

    begin = os.pread(opened.descriptor, BLOCK, 0)
    return begin[: row_end(begin, 0)]
