"""One line of the table: what was measured, its floor, and whether the aim is met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

COLUMNS = ("what", "measured", "floor", "ratio", "aim", "met")


class Row(NamedTuple):
    """Measured and floor are medians, in words. met: None where nothing is aimed at."""

    what: str
    measured: str
    floor: str
    ratio: str
    aim: str
    met: bool | None

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as it is printed."""
        return (*self[:-1], {True: "yes", False: "NO", None: "-"}[self.met])

    @classmethod
    def times(cls, what: str, measured: float, floor: float, most: float | None) -> Row:
        """A time and its floor, both in seconds, which it should not exceed `most` times."""
        ratio = measured / floor
        aim = f"≤ {most:g}×" if most is not None else "-"
        met = ratio <= most if most is not None else None
        return cls(what, milliseconds(measured), milliseconds(floor), f"{ratio:.2f}×", aim, met)

    @classmethod
    def skipped(cls, what: str, why: str) -> Row:
        """A row that cannot be measured here."""
        return cls(f"{what}: skipped, {why}", "-", "-", "-", "-", None)


def milliseconds(seconds: float) -> str:
    """A time in words."""
    return f"{seconds * 1000:.1f} ms"


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, with columns of equal width."""
    lines = [COLUMNS, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    printed = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join((printed[0], rule, *printed[1:]))
