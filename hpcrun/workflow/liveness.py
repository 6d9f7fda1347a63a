"""Whether a run's agent is silent, judged by this reader's own clock against the count it saw last.

Heartbeats are counters: clocks of different machines are never compared. What was seen is kept in
the user's cache folder; without it a run counts as silent, and the scheduler is asked.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path

SILENCE = 120.0
"""Seconds without a new heartbeat after which the agent counts as silent (four beats)."""

KEPT = 500


class Heartbeats:
    """The counts that were seen last, and when."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._seen: dict[str, tuple[int, float]] | None = None
        self._changed = False

    def silent(self, run_id: str, attempt: str, count: int) -> bool:
        """Whether the count has not moved for SILENCE seconds, or was never seen before."""
        still = self.still(run_id, attempt, count)
        return still is None or not 0 <= still < SILENCE

    def still(self, run_id: str, attempt: str, count: int) -> float | None:
        """Seconds since the count was first seen as it is; None if none was ever seen."""
        seen = self._load()
        key = f"{run_id}/{attempt}"
        before = seen.get(key)
        if before is not None and before[0] == count:
            return time.time() - before[1]
        seen[key] = (count, time.time())
        self._changed = True
        return None if before is None else 0.0

    def save(self) -> None:
        """Keeps what was seen for the next process; a failure only costs a question."""
        if not self._changed or self._seen is None:
            return
        newest = dict(sorted(self._seen.items(), key=lambda item: item[1][1])[-KEPT:])
        aside = self.file.with_name(f".{self.file.name}.{os.urandom(4).hex()}")
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            aside.write_text(json.dumps(newest))
            os.replace(aside, self.file)
        except OSError:
            with suppress(OSError):
                aside.unlink()

    def _load(self) -> dict[str, tuple[int, float]]:
        if self._seen is None:
            try:
                loaded = json.loads(self.file.read_text())
                self._seen = {key: (int(v[0]), float(v[1])) for key, v in loaded.items()}
            except (OSError, ValueError, TypeError, AttributeError, IndexError):
                self._seen = {}
        return self._seen
