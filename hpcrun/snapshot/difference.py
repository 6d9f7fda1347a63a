"""What differs between two snapshots: files, and lines of those that are text."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hpcrun.errors import StoreError
from hpcrun.manifest import Entry, Link, Manifest, shown
from hpcrun.snapshot.objects import content

MOST_BYTES = 1 << 20
"""A longer file is not compared line by line: it is data, and it takes time."""

MOST_LINES = 10_000


class Side(NamedTuple):
    """A snapshot, and the folder of its contents."""

    manifest: Manifest
    objects: Path


class FileChange(NamedTuple):
    """A file or link that differs.

    change: added, removed, changed or mode (only the x bit). added, removed: lines; None where
    they are not known. lines: a unified diff, or why there is none.
    """

    path: str
    change: str
    added: int | None
    removed: int | None
    lines: Sequence[str]


def changes(a: Side, b: Side) -> Iterator[FileChange]:
    """What differs, by path. Contents that are missing or damaged are told in `lines`."""
    before = {entry.path: entry for entry in a.manifest.entries}
    after = {entry.path: entry for entry in b.manifest.entries}
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old != new:
            yield _change(path, old, new, a.objects, b.objects)


def _change(
    path: str, old: Entry | Link | None, new: Entry | Link | None, olds: Path, news: Path
) -> FileChange:
    kind = "added" if old is None else "removed" if new is None else "changed"
    if isinstance(old, Entry) and isinstance(new, Entry) and old.sha256 == new.sha256:
        bits = [str(entry.executable).lower() for entry in (old, new)]
        return FileChange(path, "mode", 0, 0, (f"executable: {bits[0]} → {bits[1]}",))
    try:
        left, right = _lines(old, olds), _lines(new, news)
    except StoreError as error:
        return FileChange(path, kind, None, None, (error.message,))
    if isinstance(left, str) or isinstance(right, str):
        why = left if isinstance(left, str) else right
        return FileChange(path, kind, None, None, (f"{shown(path)}: {why}",))
    before = f"a/{shown(path)}" if old is not None else "/dev/null"
    after = f"b/{shown(path)}" if new is not None else "/dev/null"
    lines = list(difflib.unified_diff(left, right, before, after, lineterm=""))
    body = lines[2:]
    added = sum(line.startswith("+") for line in body)
    return FileChange(path, kind, added, sum(line.startswith("-") for line in body), lines)


def _lines(entry: Entry | Link | None, objects: Path) -> list[str] | str:
    """The lines of a file, none where there is none; or why they are not compared. StoreError."""
    if entry is None:
        return []
    if isinstance(entry, Link):
        return [f"link to {entry.target}"]
    if entry.size > MOST_BYTES:
        return f"{entry.size} bytes are too many to compare"
    data = b"".join(content(entry, str(objects)))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return "not a text"
    if "\0" in text:
        return "not a text"
    lines = text.split("\n")
    if len(lines) > MOST_LINES:
        return f"{len(lines)} lines are too many to compare"
    if lines[-1]:
        lines[-1] += "\n\\ No newline at end of file"
        return lines
    return lines[:-1]
