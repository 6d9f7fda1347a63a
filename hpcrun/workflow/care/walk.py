"""Looking at everything below a folder, however deep it is and whoever made it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Entry(NamedTuple):
    """A file, folder, link or the like, and its status."""

    path: str
    status: os.stat_result

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder; a link is none."""
        return stat.S_ISDIR(self.status.st_mode)


def walk(
    folder: str, missed: Callable[[str], None] = lambda path: None, leave_out: str = ""
) -> Iterator[Entry]:
    """A folder and everything below it, each folder before what is in it; nothing if it is none.

    No link is followed, and no depth ends it (`os.walk` calls itself before Python 3.12). What
    vanishes meanwhile is left out. missed: hears of folders that cannot be read. leave_out: a path
    that is passed over, with all below it.
    """
    try:
        waiting = [Entry(folder, os.lstat(folder))]
    except OSError:
        return
    while waiting:
        entry = waiting.pop()
        yield entry
        if not entry.is_folder:
            continue
        try:
            with os.scandir(entry.path) as entries:
                found = sorted(entries, key=lambda each: each.name, reverse=True)
        except OSError:
            missed(entry.path)
            continue
        for each in found:
            if each.path == leave_out:
                continue
            try:
                waiting.append(Entry(each.path, each.stat(follow_symlinks=False)))
            except OSError:
                continue
