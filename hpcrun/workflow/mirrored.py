"""Runs that are here as a mirror of what lives in another workspace: they are only read here."""

from __future__ import annotations

import shlex

from hpcrun.errors import SchedulerError
from hpcrun.moments import local
from hpcrun.record import RunRecord


def expect_here(record: RunRecord, *words: str) -> None:
    """SchedulerError if a run lives elsewhere. words: the command that does it there."""
    mirror = record.imported
    if mirror is None or not mirror.mirror:
        return
    raise SchedulerError(
        f"run {record.run_id} is here as a mirror only ({record.state} on {local(mirror.time)})",
        shlex.join(["hpcrun", "-w", mirror.workspace, *words, f"{mirror.user}/{record.run_id}"]),
    )
