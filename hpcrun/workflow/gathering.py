"""What a run that is made of independent tasks does, and how it ended: as its tasks have. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hpcrun.record import RunRecord
from hpcrun.state import Cause, State
from hpcrun.workflow.cut import array_of
from hpcrun.workflow.interactive import end_of


def gathered(count: int, tasks: Sequence[RunRecord], are_made: bool) -> tuple[str, dict[str, Any]]:
    """The fact that tasks tell of the run that is made of them: its kind and its data.

    count: how many there should be. tasks: those that are there. are_made: whether no more come.
    """
    ended = [task for task in tasks if task.has_ended]
    if len(ended) == len(tasks) and are_made:
        return "ended", _end(count, ended)
    begun = any(task.started is not None for task in tasks)
    state = State.RUNNING if begun else State.QUEUED if tasks else State.NOT_STARTED
    return "scheduler", {"state": str(state), "raw": f"{len(ended)} of {count} tasks have ended"}


def arrays_of(tasks: Sequence[RunRecord]) -> str | None:
    """The jobs of tasks, arrays as one; None while one has none."""
    jobs = [task.job_id for task in tasks if task.verdict is None or task.job_id is not None]
    if not jobs or None in jobs:
        return None
    return ",".join(dict.fromkeys(array_of(job_id) for job_id in jobs if job_id is not None))


def _end(count: int, ended: Sequence[RunRecord]) -> dict[str, Any]:
    failed = [task for task in ended if task.state is State.FAILED]
    canceled = [task for task in ended if task.state is State.CANCELED]
    gone = count - len(ended)
    parts = [
        f"{number} of {count} tasks {'has' if number == 1 else 'have'} {how}"
        for number, how in ((len(failed), "failed"), (len(canceled), "been canceled"))
        if number
    ]
    if gone:
        are = "is" if gone == 1 else "are"
        parts.append(f"{gone} of {count} {are} not there: never submitted, or deleted")
    if not parts:
        return end_of(Cause.COMPLETED, f"all {count} tasks have completed")
    cause = Cause.REPORTED if failed or gone else Cause.CANCELED
    evidence = [_told(task) for task in (*failed, *canceled)[:_SHOWN]]
    first = f"; the first: {evidence[0]}" if evidence else ""
    return {**end_of(cause, ", ".join(parts) + first), "evidence": evidence}


_SHOWN = 10
"""Tasks that stand in the evidence."""


def _told(task: RunRecord) -> str:
    number = task.request["task"]["index"] if "task" in task.request else "?"
    sentence = task.verdict.sentence if task.verdict is not None else str(task.state)
    return f"task {number}, run {task.run_id}: {sentence}"
