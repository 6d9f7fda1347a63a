"""Metric files as they are opened: nothing but regular files, and never what a link leads to.

Standard library only (Python 3.8+).
"""

from __future__ import annotations

import os
import stat
from typing import Any, Dict, Mapping, Sequence

from hpcrun.agent.follow.patterns import LIMIT, Pattern, find
from hpcrun.agent.follow.recorded import Mark, mark


class Opened:
    """A file of the job's folder, opened to read: no link's target, no pipe is waited for."""

    def __init__(self, root: str, path: str) -> None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self.descriptor = os.open(os.path.join(root, path), flags)
        status = os.fstat(self.descriptor)
        self.is_file = stat.S_ISREG(status.st_mode)
        self.size = status.st_size

    def __enter__(self) -> "Opened":
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.descriptor)

    def mark(self, length: int) -> Mark:
        """The mark of its first bytes. OSError."""
        return mark(self.descriptor, length)

    def holds(self, told: Mark) -> bool:
        """Whether it still begins with what was marked. OSError."""
        return told.length <= self.size and self.mark(told.length) == told


def holds(root: str, path: str, told: Mark) -> bool:
    """Whether a file still begins with what was marked; no, where it cannot be read."""
    try:
        with Opened(root, path) as opened:
            return opened.is_file and opened.holds(told)
    except OSError:
        return False


def look_back(root: str, told: Sequence[Mapping[str, Any]]) -> Dict[str, Mark]:
    """path → the mark of what stands in each metric file now. Files that fail are left out."""
    found: Dict[str, Mark] = {}
    for file in find(root, [Pattern.of(pattern) for pattern in told])[:LIMIT]:
        try:
            with Opened(root, file.path) as opened:
                if opened.is_file:
                    found[file.path] = opened.mark(opened.size)
        except OSError:
            pass  # whoever follows it will tell
    return found
