"""What counts of a job that nobody remembers, and when.

sacct hears of all a little late. What slurmdbd missed while it was away comes some seconds after
it is back, the newest life first (22.05): until then nobody knows a job that the controller has
forgotten, though all will be known of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from hpcrun.ports import JobWord
from hpcrun.record import RunRecord
from hpcrun.state import Cause, State
from hpcrun.workflow.liveness import Heartbeats

FORGOTTEN = 120.0
"""Seconds for which a job that nobody knows is still waited for, after its submission and after
the first look that found none."""


def if_all(lives: Sequence[JobWord], record: RunRecord) -> Sequence[JobWord]:
    """The words on a job's lives; none while they are fewer than the record knows of."""
    newest = lives[-1].restart if lives else None
    return () if newest is not None and newest < record.attempt.attempt.restart else lives


def is_known(lives: Sequence[JobWord], record: RunRecord) -> bool:
    """Whether they tell of all that the record knows of, and somebody knows the job."""
    known = if_all(lives, record)
    return bool(known) and known[-1].state is not State.NOT_RESPONDING


def is_forgotten(record: RunRecord, heartbeats: Heartbeats) -> bool:
    """Whether nobody has known the job for long enough, as far as this reader remembers."""
    still = heartbeats.still(record.run_id, f"{record.attempt.attempt} unknown", 0)
    return (still or 0.0) >= FORGOTTEN


def of_unknown(record: RunRecord, word: JobWord | None, heartbeats: Heartbeats) -> JobWord | None:
    """The word on a job that nobody remembers: lost, once it has been gone for long enough.

    word: what is said of it all the same.
    """
    if time.time() - (record.attempt.submitted or record.created) < FORGOTTEN:
        return None
    word = word or JobWord(State.NOT_RESPONDING, "the job is unknown to the scheduler")
    if not is_forgotten(record, heartbeats):
        return word
    return replace(word, state=State.FAILED, cause=Cause.LOST)
