"""JSON lines: one object a line. Pure; standard library only (Python 3.8+)."""

from __future__ import annotations

import json
from typing import Dict, List

from hpcrun.agent.follow.points import Point, Reading, count, flattened, points_of


def read(data: bytes, step: str, final: bool) -> Reading:
    """The points of all whole lines. final: nothing follows, so the last needs no newline."""
    points: List[Point] = []
    skipped: Dict[str, int] = {}
    place = 0
    while True:
        end = data.find(b"\n", place) + 1
        if not end:
            break
        points += _points(data[place:end], step, end, skipped)
        place = end
    if final and place < len(data):
        # What a kill has torn is no object: the closing brace is missing.
        torn: Dict[str, int] = {}
        last = list(_points(data[place:], step, len(data), torn))
        if not torn:
            points += last
            place = len(data)
    return Reading(points, place, skipped, 2 * len(data) if not place and data else 0)


def _points(line: bytes, step: str, end: int, skipped: Dict[str, int]) -> List[Point]:
    if not line.strip():
        return []
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        count(skipped, "line that is no JSON")
        return []
    if not isinstance(value, dict):
        count(skipped, "line that is no object")
        return []
    return list(points_of(flattened(value, skipped), step, end))
