"""A bar for what takes longer than a second, with bytes, rate and the time left."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

AFTER = 1.0
"""Seconds before which there is no bar."""


@contextlib.contextmanager
def transfer(what: str) -> Iterator[Callable[[int, int], object] | None]:
    """What is told of bytes so far and bytes in all, while something is brought.

    None where nobody looks: standard error is no terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(what)
    try:
        yield bar.tell
    finally:
        bar.end()


class _Bar:
    def __init__(self, what: str) -> None:
        self._what = what
        self._began = time.monotonic()
        self._progress: Progress | None = None

    def tell(self, done: int, total: int) -> None:
        if time.monotonic() - self._began < AFTER:
            return
        if self._progress is None:
            self._progress = _columns()
            self._progress.add_task(self._what, total=total)
            self._progress.start()
        self._progress.update(self._progress.task_ids[0], completed=done, total=total)

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()


def _columns() -> Progress:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(binary_units=True),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )
