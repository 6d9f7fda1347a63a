"""Asking for a run's end, and telling who did: the verdict then knows who it was."""

from __future__ import annotations

from hpcrun.errors import SchedulerError
from hpcrun.layout import INTERACTIVE
from hpcrun.ports import JobId
from hpcrun.record import RunRecord
from hpcrun.state import Cause
from hpcrun.workflow.interactive import end
from hpcrun.workflow.session import Session


def cancel(session: Session, record: RunRecord) -> RunRecord:
    """Cancels a run. One that has ended already is left as it is."""
    record = session.refreshed([record])[0]
    if record.state.is_end:
        return record
    if record.user != session.user:
        raise SchedulerError(f"run {record.run_id} is {record.user}'s", "only they can cancel it")
    if record.target == INTERACTIVE:
        message = f"the run was canceled by {session.user}"
        return end(record, session.store, Cause.CANCELED, message)
    if record.job_id is None:
        raise SchedulerError(
            f"run {record.run_id} has no job yet that could be canceled",
            "its submission may be going on: try again in a minute",
            transient=True,
        )
    session.cancel_job(record.target, JobId(record.job_id))
    paths = session.store.paths(record.run_id)
    session.store.append(paths, record.attempt.attempt, "cancel_requested", {"by": session.user})
    return session.store.read(record.run_id)
