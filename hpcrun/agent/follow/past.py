"""What is known of a run's metric files while they are followed. (Python 3.8+)"""

from __future__ import annotations

from collections import Counter
from typing import Dict, List, Mapping, NamedTuple, Sequence, Tuple

from hpcrun.agent.follow import recorded
from hpcrun.agent.follow.opened import Opened
from hpcrun.agent.follow.patterns import Found
from hpcrun.agent.follow.points import Point, Reading
from hpcrun.agent.follow.recorded import Cursor, Mark
from hpcrun.layout import Attempt

FIRST = Attempt(1, 0)


class Piece(NamedTuple):
    """What was read of a file. owners: see `Past.owners`."""

    cursor: Cursor
    reading: Reading
    mark: Mark
    owners: "Sequence[Tuple[int, Attempt]]"


class Past:
    """What the journals told when they were read, and what was written since."""

    def __init__(
        self,
        cursors: Dict[str, Cursor],
        marks: Mapping[Attempt, Mapping[str, Mark]],
        attempt: Attempt,
    ) -> None:
        self.cursors = cursors
        self.points: "Dict[str, Counter[int]]" = {}
        self._attempt = attempt
        self._marks = {a: marks[a] for a in sorted(marks) if a <= attempt}
        self._owners: Dict[str, Sequence[Tuple[int, Attempt]]] = {}

    def is_over(self, record: str) -> bool:
        """Whether a newer attempt has begun, which follows now. OSError."""
        return any(attempt > self._attempt for attempt in recorded.attempts(record))

    def forget(self, file: Found) -> None:
        """The file was written anew."""
        self._owners.pop(file.path, None)
        self.points.pop(file.group, None)

    def owners(self, file: Found, opened: "Opened") -> Sequence[Tuple[int, Attempt]]:
        """(end, attempt): up to that byte the file is that attempt's, or an earlier one's."""
        if file.path not in self._owners:
            before, found = FIRST, []
            for attempt, files in self._marks.items():
                stood = files.get(file.path)
                if stood is not None and stood.length and opened.holds(stood):
                    found.append((stood.length, before))
                before = attempt
            self._owners[file.path] = found
        return self._owners[file.path]

    def new(self, file: Found, piece: Piece) -> List[Tuple[Attempt, Point]]:
        """The points that no journal holds, with the attempt that each is of."""
        points = piece.reading.points[piece.cursor.skip :]
        if piece.cursor.again:
            left = self.points[file.group]
            points = [point for point in points if not _taken(left, _key(file, point))]
        begin = piece.cursor.mark.length
        return [(self._owner(piece, begin + point.end), point) for point in points]

    def _owner(self, piece: Piece, end: int) -> Attempt:
        owners = (attempt for upto, attempt in piece.owners if end <= upto)
        return next(owners, self._attempt)


def _key(file: Found, point: Point) -> int:
    return recorded.key(file.prefix + point.name, point.step, point.value)


def _taken(left: "Counter[int]", key: int) -> bool:
    """Takes a point from those that the journals hold, if it is one of them."""
    if left[key] <= 0:
        return False
    left[key] -= 1
    return True
