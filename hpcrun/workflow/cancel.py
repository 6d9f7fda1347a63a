"""Asking for a run's end, and telling who did: the verdict then knows who it was."""

from __future__ import annotations

from hpcrun.errors import HpcrunError, SchedulerError
from hpcrun.layout import INTERACTIVE
from hpcrun.ports import JobId
from hpcrun.record import RunRecord
from hpcrun.state import Cause
from hpcrun.workflow.interactive import end
from hpcrun.workflow.session import Session


def cancel(session: Session, record: RunRecord) -> list[RunRecord]:
    """Cancels a run, then the children that it has; gives all of their records, its own first.

    One that has ended already is left as it is; its children are not. Where one cannot be canceled,
    the others are all the same, and the first error is raised then.
    """
    canceled = _cancel(session, record)
    found, errors = [canceled], []
    for child in canceled.children:
        if not session.store.has(child, record.user):
            continue  # it was deleted
        try:
            found += cancel(session, session.store.read(child, record.user))
        except HpcrunError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return found


def _cancel(session: Session, record: RunRecord) -> RunRecord:
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
