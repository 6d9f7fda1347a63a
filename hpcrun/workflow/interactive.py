"""Interactive runs whose process is silent, or that are ended from outside of it.

Nobody but its process knows of such a run. Its companion beats like an agent and tells its end if
the interpreter dies; where the companion is silent too, the run does not respond, until it beats
again, somebody cancels it, or, of a child, the run that made it has ended.
"""

from __future__ import annotations

from typing import Any

from hpcrun.errors import HpcrunError
from hpcrun.record import RunRecord
from hpcrun.state import Cause
from hpcrun.store import FileStore
from hpcrun.workflow.liveness import SILENCE, Heartbeats
from hpcrun.workflow.mirrored import expect_here

LOST = "its process is silent, and the run that made it has ended"
NEVER_BEGUN = "nothing was ever told of it, and the run that made it has ended"


def is_silent(record: RunRecord, heartbeats: Heartbeats) -> bool:
    """Whether a run was seen to beat no more, or not yet, for SILENCE seconds."""
    attempt = record.attempt
    still = heartbeats.still(record.run_id, str(attempt.attempt), attempt.heartbeats)
    return still is not None and still >= SILENCE


def is_left(record: RunRecord, store: FileStore) -> bool:
    """Whether it is a child, and the run that made it has ended."""
    if record.parent is None:
        return False
    try:
        return store.read(record.parent, record.user).has_ended
    except HpcrunError:
        return False  # the parent was deleted, or cannot be read now


def end(record: RunRecord, store: FileStore, cause: Cause, message: str) -> RunRecord:
    """The record of an interactive run that is ended from outside of its process. SchedulerError:
    it is a mirror."""
    expect_here(record, "cancel")
    attempt = record.attempt.attempt
    store.append(store.paths(record.run_id), attempt, "ended", end_of(cause, message))
    return store.read(record.run_id)


def end_of(cause: Cause, message: str) -> dict[str, Any]:
    """The data of an `ended` fact."""
    return {"exit_code": None, "signal": None, "cause": str(cause), "message": message}
