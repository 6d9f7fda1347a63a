"""Whether the runs that this one waits for have ended as they must. Standard library only (3.8+).

Their own records tell, and Slurm only where they do not: what Slurm has forgotten counts as done
for it (22.05), and a run that was submitted again goes on as another job.
"""

from __future__ import annotations

import glob
import json
import os
from typing import NamedTuple, Optional, Sequence, Tuple

from hpcrun.agent import past, preemption
from hpcrun.agent.policy import After
from hpcrun.fold import fold
from hpcrun.kinds import REQUEST
from hpcrun.layout import task_ids
from hpcrun.record import RunRecord
from hpcrun.state import State

LAG = 90.0
"""Seconds for which a file system may keep an end from other nodes."""

ASKING = 2.0
"""Seconds between two looks."""

_SHOWN = 3
"""Of many runs that keep it waiting, those that are named."""


class Standing(NamedTuple):
    """How it stands: whether the run may begin; None while that is open. why: in words, if not."""

    may_begin: Optional[bool]
    why: str = ""


def look(after: After, asks_slurm: bool = False) -> Standing:
    """How it stands now. asks_slurm: about jobs whose runs do not tell their end."""
    each = [_standing(after, record, asks_slurm) for record in after.records]
    return _together(each, after.any_of)


def _together(each: Sequence[Standing], any_of: bool = False) -> Standing:
    enough, spoilt = (any, all) if any_of else (all, any)
    if enough(one.may_begin is True for one in each):
        return Standing(True)
    whys = [one.why for one in each if one.may_begin is not True]
    rest = [f"{len(whys) - _SHOWN} more"] if len(whys) > _SHOWN else []
    why = "; ".join(whys[:_SHOWN] + rest)
    return Standing(False if spoilt(one.may_begin is False for one in each) else None, why)


def _standing(after: After, folder: str, asks_slurm: bool) -> Standing:
    run_id = os.path.basename(folder)
    try:
        record = _record(folder)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        return Standing(None, f"run {run_id}, which it waits for, cannot be read: {error}")
    if record is None:
        return Standing(True)  # sealed long ago: it had ended when this run was submitted
    if record.has_ended:
        good = after.condition == "afterany" or record.state == State.COMPLETED
        return Standing(good, "" if good else _told(run_id, record))
    tasks = record.request.get("tasks")
    if tasks is not None:
        # Its own end is written down when somebody looks at it: it is what its tasks are.
        ids, active = task_ids(run_id, tasks["count"]), os.path.dirname(folder)
        return _together([_standing(after, os.path.join(active, i), asks_slurm) for i in ids])
    if asks_slurm and record.job_id:
        word = preemption.standing(record.job_id.partition(";")[0]).state
        if word == "COMPLETED" or (word and after.condition == "afterany" and word in _ENDS):
            return Standing(True)
        if word in _ENDS:
            return Standing(False, f"run {run_id}, which it waits for: Slurm says {word}")
    return Standing(None, f"run {run_id}, which it waits for, is still {record.state}")


_ENDS = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
        *("OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"),
    )
)


def _told(run_id: str, record: RunRecord) -> str:
    verdict = f": {record.verdict.sentence}" if record.verdict else ""
    return f"run {run_id}, which it waits for, is {record.state}{verdict}"


def _record(folder: str) -> Optional[RunRecord]:
    """The record in a folder, or in the one where it went when it was sealed; None: neither."""
    for place in (folder, *_retired(folder)):
        try:
            request = json.loads(past.plain(os.path.join(place, "run.json")))
        except FileNotFoundError:
            continue
        if not isinstance(request, dict) or REQUEST.wrong(request):
            raise ValueError("its run.json is damaged")
        return fold(request, past.facts(place, ""))
    owner, run_id = os.path.dirname(os.path.dirname(folder)), os.path.basename(folder)
    if glob.glob(os.path.join(glob.escape(owner), "runs", "*", glob.escape(run_id) + ".*")):
        return None
    raise FileNotFoundError("its record is gone")


def _retired(folder: str) -> Tuple[str, ...]:
    active, run_id = os.path.split(folder)
    pattern = os.path.join(glob.escape(active), f".sealed-{glob.escape(run_id)}.*")
    return tuple(sorted(glob.glob(pattern), key=lambda path: int(path.rpartition(".")[2])))[::-1]
