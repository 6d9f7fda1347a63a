"""A bar for what takes longer than a second, with how much, the rate and the time left."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hpcrun.progress import Tell

if TYPE_CHECKING:
    from rich.progress import Progress, Task
    from rich.text import Text

AFTER = 1.0
"""Seconds before which there is no bar."""


@contextlib.contextmanager
def transfer(what: str, unit: str | None = "") -> Iterator[Tell | None]:
    """What is told of something while it goes on; as `hpcrun.progress.Show`.

    None where nobody looks: standard error is no terminal.
    """
    if not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(what, unit)
    # Else it begins when it is told something: ssh may be asking for a code until then.
    timer = threading.Timer(AFTER, bar.start) if unit is None else None
    if timer is not None:
        timer.start()
    try:
        yield bar.tell
    finally:
        if timer is not None:
            timer.cancel()
        bar.end()


class _Bar:
    def __init__(self, what: str, unit: str | None) -> None:
        self._what, self._unit = what, unit
        self._began = time.monotonic()
        self._progress: Progress | None = None
        self._turn = threading.Lock()
        self._is_over = False

    def start(self, total: int | None = None) -> None:
        with self._turn:
            if self._progress is None and not self._is_over:
                self._progress = _columns(self._unit, self._began)
                self._progress.add_task(self._what, total=total)
                self._progress.start()

    def tell(self, done: int, total: int) -> None:
        if self._progress is None:
            if time.monotonic() - self._began < AFTER:
                return
            self.start(total)
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=done, total=total)

    def end(self) -> None:
        with self._turn:
            self._is_over = True
            if self._progress is not None:
                self._progress.stop()


def _columns(unit: str | None, began: float) -> Progress:
    from rich import filesize, progress
    from rich.console import Console
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        """From the beginning on: what is told comes in bursts."""

        def render(self, task: Task) -> Text:
            rate = task.completed / max(time.monotonic() - began, 0.001)
            return Text(f"{rate:.1f} {unit}/s" if unit else f"{filesize.decimal(int(rate))}/s")

    columns: list[progress.ProgressColumn]
    if unit is None:
        columns = [progress.TimeElapsedColumn()]
    elif unit:
        columns = [progress.MofNCompleteColumn(), Rate(), progress.TimeRemainingColumn()]
    else:
        columns = [
            progress.DownloadColumn(binary_units=True),
            Rate(),
            progress.TimeRemainingColumn(),
        ]
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        *columns,
        console=Console(stderr=True),
        transient=unit is None,
    )
