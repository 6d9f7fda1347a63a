"""CSV with a header, such as Lightning's metrics.csv. Standard library only (Python 3.8+).

Lightning leaves cells empty that a row has no value for, and writes the whole file anew when a
column is added.
"""

from __future__ import annotations

import csv
from typing import Any, Dict, List, Optional, Sequence

from hpcrun.agent.follow.points import Point, Reading, count, points_of

csv.field_size_limit(1 << 24)


def read(data: bytes, step: str, final: bool) -> Reading:
    """The points of all whole rows; data begins with the header. A last row without a newline
    may be a part of one, also when nothing follows: it is left out."""
    del final
    points: List[Point] = []
    skipped: Dict[str, int] = {}
    header: Optional[List[str]] = None
    place = 0
    while True:
        end = row_end(data, place)
        if not end:
            break
        cells = _cells(data[place:end])
        if header is None:
            header = _named([name.strip() for name in cells or ()])
        elif cells is None:
            count(skipped, "row that is no CSV")
        elif cells:
            points += _points(header, cells, step, end, skipped)
        place = end
    return Reading(points, place, skipped, 2 * len(data) if not place and data else 0)


def row_end(data: bytes, place: int) -> int:
    """Where the row that begins there ends; 0 if it is not whole. A quoted cell holds newlines."""
    end = place
    quotes = 0
    while True:
        begin, end = end, data.find(b"\n", end) + 1
        if not end:
            return 0
        quotes += data.count(b'"', begin, end)
        if quotes % 2 == 0:
            return end


def _named(names: Sequence[str]) -> List[str]:
    """Each column's own name: of `loss,loss` the second is `loss.1`, as pandas has it."""
    header: List[str] = []
    for name in names:
        own, number = name, 0
        while own and own in header:
            number += 1
            own = f"{name}.{number}"
        header.append(own)
    return header


def _cells(row: bytes) -> Optional[List[str]]:
    try:
        return next(csv.reader([row.decode("utf-8-sig", "replace")]), [])
    except csv.Error:
        return None


def _points(
    header: Sequence[str], cells: Sequence[str], step: str, end: int, skipped: Dict[str, int]
) -> List[Point]:
    if _named([cell.strip() for cell in cells]) == list(header):
        return []
    if len(cells) > len(header):
        count(skipped, "row longer than its header")
    # A row may be shorter than the header.
    numbers = {header[n]: _number(cell.strip()) for n, cell in enumerate(cells[: len(header)])}
    given = {name: number for name, number in numbers.items() if name and number is not None}
    return list(points_of(given, step, end))


def _number(text: str) -> Any:
    """The number in a cell; None if there is none."""
    if not text or "_" in text:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return None
