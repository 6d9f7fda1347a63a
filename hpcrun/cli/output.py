"""Printing: JSON for programs, plain text for pipes, rich for people at a terminal."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from hpcrun.forms import PRINTED_BITS
from hpcrun.layout import RunPaths
from hpcrun.moments import iso, local
from hpcrun.record import AttemptRecord, Imported, RunRecord, Verdict

if TYPE_CHECKING:
    from rich.console import Console

COLORS = {
    "Completed": "green",
    "Failed": "red",
    "Canceled": "yellow",
    "Running": "cyan",
    "Finalizing": "cyan",
    "NotResponding": "magenta",
    "CancelRequested": "yellow",
}


def print_json(value: Any) -> None:
    """One object or array; NaN and infinities, which JSON lacks, as strings.

    So are ints of more digits than readers take. What would steer a terminal is an escape; what is
    no UTF-8 in a name, that of a lone surrogate.
    """
    text = json.dumps(_strict(value), ensure_ascii=False, indent=2, allow_nan=False)
    click.echo("\n".join(map(_escaped, text.split("\n"))).encode())


def _escaped(line: str) -> str:
    """A line of JSON of the same meaning that can be printed as it is."""
    if line.isprintable():
        return line
    return "".join(
        c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) < 0x80 else json.dumps(c)[1:-1]
        for c in line
    )


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, int) and value.bit_length() > PRINTED_BITS:
        return hex(value)
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return value


def printable(text: str, kept: str = "") -> str:
    """A text that others may have written, for a terminal: what would steer it is an escape.

    kept: characters that stay all the same.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in text)


def say(text: str = "", err: bool = False) -> None:
    """Prints lines for people."""
    click.echo(printable(text, kept="\n\t"), err=err)


def at_terminal() -> bool:
    """Whether a person looks at standard output."""
    return sys.stdout.isatty()


def console() -> Console:
    """The terminal; made on first use, since rich is not needed for pipes."""
    from rich.console import Console

    return Console(highlight=False)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], status_column: int | None = None
) -> None:
    """A table: with colors at a terminal, tab-separated when piped."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if not at_terminal():
        for row in (columns, *rows):
            click.echo("\t".join(row))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0, overflow="fold")
    for row in rows:
        cells = [Text(cell) for cell in row]
        if status_column is not None:
            cells[status_column].stylize(COLORS.get(row[status_column], "default"))
        table.add_row(*cells)
    console().print(table)


def when(seconds: float | None) -> str:
    """A time for people, in their own zone."""
    return "-" if seconds is None else local(seconds)


def how_long(seconds: float | None) -> str:
    """A duration for people."""
    if seconds is None:
        return "-"
    minutes, second = divmod(int(max(0, seconds)), 60)
    hours, minute = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minute:02d}m"
    return f"{minute}m{second:02d}s" if minute else f"{seconds:.1f}s"


def number(value: float | None) -> str:
    """A number for people."""
    return "-" if value is None else f"{value:.6g}"


def size_of(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def bad_lines_told(count: int) -> str:
    """Lines that nobody could read, for people."""
    lines, are = ("line", "is") if count == 1 else ("lines", "are")
    return f"{count} {lines} of the journals {are} torn or foreign"


def run_object(record: RunRecord, paths: RunPaths, where: str | None = None) -> dict[str, Any]:
    """A run as JSON. The keys are stable; docs/json.md describes them.

    where: its record lies, if that is known.
    """
    return {
        "run_id": record.run_id,
        "experiment": record.experiment,
        "display_name": record.display_name,
        "description": record.description,
        "user": record.user,
        "target": record.target,
        "status": str(record.state),
        "reason": record.attempt.reason or None,
        "estimated_start": iso(record.attempt.starts),
        "verdict": verdict_object(record.verdict),
        "job_id": record.job_id,
        "created": iso(record.created),
        "started": iso(record.started),
        "ended": iso(record.ended),
        "attempts": [attempt_object(attempt) for attempt in record.attempts],
        "tags": dict(record.tags),
        "properties": dict(record.properties),
        "parent": record.parent,
        "children": list(record.children),
        "models": list(record.models),
        "archived": record.archived,
        "imported": imported_object(record.imported),
        "private": paths.owner.is_private,
        "problems": list(record.problems),
        "lost_records": record.lost_records,
        "bad_lines": record.bad_lines,
        "record": where or located(paths),
        "files": paths.files,
    }


def imported_object(imported: Imported | None) -> dict[str, Any] | None:
    """Where a run was taken in from, as JSON."""
    if imported is None:
        return None
    return {**imported._asdict(), "time": iso(imported.time)}


def located(paths: RunPaths) -> str:
    """Where the record of a run lies: its folder, or its sealed file."""
    from hpcrun.store.stored import StoredRun

    return StoredRun(paths).located()


def attempt_object(attempt: AttemptRecord) -> dict[str, Any]:
    """An attempt as JSON."""
    return {
        "attempt": str(attempt.attempt),
        "status": str(attempt.state),
        "job_id": attempt.job_id,
        "host": attempt.host,
        "nodes": list(attempt.nodes),
        "submitted": iso(attempt.submitted),
        "started": iso(attempt.started),
        "ended": iso(attempt.ended),
        "verdict": verdict_object(attempt.verdict),
        "undrained": list(attempt.undrained),
        "data": [dict(each) for each in attempt.data],
        "uncollected": [left._asdict() for left in attempt.uncollected],
        "ranks": [
            {"rank": end.rank, "status": end.status, "host": end.host} for end in attempt.rank_ends
        ],
    }


def verdict_object(verdict: Verdict | None) -> dict[str, Any] | None:
    """A verdict as JSON."""
    if verdict is None:
        return None
    return {
        "cause": str(verdict.cause),
        "sentence": verdict.sentence,
        "evidence": list(verdict.evidence),
        "exit_code": verdict.exit_code,
        "signal": verdict.signal,
        "rank": verdict.rank,
        "hint": verdict.hint,
    }
