"""The way by which files of another workspace come here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcrun.transport.fetching import Files
from hpcrun.transport.rsync import Progress
from hpcrun.workflow.telling import ToldFile


class Way:
    """How all that is new comes here, with one progress for all of it."""

    def __init__(self, source: Files, progress: Progress | None) -> None:
        self.source = source
        self._progress = progress
        self._total = 0

    def part(self, size: int) -> Progress | None:
        """The progress of a part of it."""
        progress, before = self._progress, self._total
        self._total += size
        total = self._total
        if progress is None:
            return None
        return lambda done, _: progress(before + done, total)

    def fetch(
        self,
        room: str,
        files: Sequence[ToldFile],
        into: Path,
        apart: Path,
        basis: Path | None = None,
    ) -> Sequence[str]:
        """As `Files.fetch`."""
        total = sum(file.size for file in files)
        names = [file.path for file in files]
        progress = self.part(total)
        return self.source.fetch(room, names, into, apart, basis, total, progress)
