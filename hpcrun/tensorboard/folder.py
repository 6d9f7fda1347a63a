"""A folder that TensorBoard reads: what runs logged, and links to their own event files.

<folder>/<run id>/events.out.tfevents.<seconds>.hpcrun     what was logged; only appended to
<folder>/<run id>/logs/…, <folder>/<run id>/outputs/…      links to the run's event files
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from hpcrun.faults import told
from hpcrun.metrics import Metric
from hpcrun.tensorboard.event_file import Point, beginning
from hpcrun.tensorboard.points import additions, points_of

MARK = "tfevents"
"""By which TensorBoard knows an event file: it stands in its name."""


class RunEvents:
    """The folder of one run."""

    def __init__(self, folder: Path, created: float) -> None:
        self.folder = folder
        self.file = folder / f"events.out.{MARK}.{int(created):010d}.hpcrun"
        self._created = created
        self._written: Counter[Point] = Counter()

    def show(self, metrics: Mapping[str, Metric]) -> int:
        """Makes the event file show these metrics; gives how many points they are.

        nan is no value that could be known again: it is written once for each step.
        """
        wanted = Counter(map(_known, points_of(metrics)))
        with told(f"write {self.file}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            new = b"".join(additions(self._written, wanted, time.time()))
            begun = self.file.exists()
            if new or not begun:
                with self.file.open("ab") as file:
                    file.write((b"" if begun else beginning(self._created)) + new)
        self._written = wanted
        return wanted.total()

    def link(self, files: Path, names: Iterable[str]) -> None:
        """Links to the event files among a run's files. files: the run's folder."""
        for name in names:
            link = self.folder / name
            if MARK in link.name and not link.is_symlink():
                with told(f"link {link}"):
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(files / name)


_NAN = float("nan")


def _known(point: Point) -> Point:
    """A point that equals its like: nan is equal only to the same object."""
    return point._replace(value=_NAN) if point.value != point.value else point
