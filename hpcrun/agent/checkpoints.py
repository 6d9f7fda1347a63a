"""The newest complete checkpoint of a run. Standard library only (Python 3.8+).

A checkpoint is a file or folder below outputs/ whose name fits a pattern. Half-written ones are
told by their name (it becomes the final one by a rename) or by a marker that is written last.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Collection, Iterator, List, NamedTuple, Optional, Sequence, Tuple

UNFINISHED = (".tmp", ".part", ".partial", ".incomplete")
"""How names end that are never a checkpoint's."""


class Rules(NamedTuple):
    """What a checkpoint is. patterns: below outputs/, as for glob, `**` any folders.

    marker: None, or what says that one is complete: `<checkpoint>/<marker>` in a folder, or
    `<checkpoint>.<marker>` beside it.
    """

    patterns: Tuple[str, ...] = ()
    marker: Optional[str] = None


class Checkpoint(NamedTuple):
    """A complete one. changed: by its file system's clock, nanoseconds; a folder, by that of the
    newest file in it."""

    changed: int
    path: str

    @property
    def identity(self) -> str:
        """Names this state of it: one that is written anew has another."""
        return f"{self.path}@{self.changed}"


def newest(outputs: str, rules: Rules, partial: Collection[str] = ()) -> Optional[Checkpoint]:
    """The complete checkpoint that was changed last; None if there is none.

    partial: the paths of those that have come from their node only in part.
    """
    found = {
        path: _checkpoint(path, rules.marker)
        for path in matching(outputs, rules.patterns)
        if path not in partial
    }
    return max((one for one in found.values() if one is not None), key=_order, default=None)


def _order(one: Checkpoint) -> Tuple[int, List[int], str]:
    """Of several in one moment, as where a file system counts seconds, the numbers in the names
    tell: step 10 is newer than step 9."""
    return one.changed, [int(digits) for digits in re.findall(r"\d+", one.path)], one.path


def matching(outputs: str, patterns: Sequence[str]) -> Iterator[str]:
    """What the patterns fit below outputs/, complete or not."""
    import glob  # slow to import, and seldom needed

    for pattern in patterns:
        for path in glob.iglob(os.path.join(glob.escape(outputs), pattern), recursive=True):
            path = path.rstrip("/")
            names = os.path.relpath(path, outputs).split("/")
            if not any(name.endswith(UNFINISHED) for name in names):
                yield path


def _checkpoint(path: str, marker: Optional[str]) -> Optional[Checkpoint]:
    try:
        found = os.stat(path)
        files = list(_files(path)) if stat.S_ISDIR(found.st_mode) else [found]
    except OSError:
        return None  # it was removed meanwhile
    if not any(file.st_size for file in files):
        return None
    if marker is not None and not _is_marked(path, marker):
        return None
    # A folder's own time is that of its arrival, where it was brought from a node.
    return Checkpoint(max(file.st_mtime_ns for file in files), path)


def _files(folder: str) -> Iterator[os.stat_result]:
    """All files in it, at any depth; links to folders are not followed. OSError."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            elif entry.is_file():
                yield entry.stat()


def _is_marked(path: str, marker: str) -> bool:
    inside = os.path.join(path, marker)
    return not path.endswith(f".{marker}") and (
        os.path.exists(inside) or os.path.exists(f"{path}.{marker}")
    )


def to_resume(
    found: Optional[Checkpoint], given: Optional[str], anew: bool, before: Optional[str]
) -> Optional[str]:
    """The path that an attempt goes on from.

    found: the newest of the run. given: what the submission begins with. anew: whether that comes
    first, until the submission has a checkpoint of its own. before: the identity of the newest when
    the submission began; None if there was none.
    """
    if found is None:
        return given
    return given if anew and found.identity == before else found.path
