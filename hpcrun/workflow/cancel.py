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
    found: list[RunRecord] = []
    errors: list[HpcrunError] = []
    waiting, seen = [record.run_id], {record.run_id}
    while waiting:
        run_id = waiting.pop(0)
        if run_id != record.run_id and not session.store.has(run_id, record.user):
            continue  # it was deleted
        try:
            each = record if run_id == record.run_id else session.store.read(run_id, record.user)
            found.append(_cancel(session, each))
        except HpcrunError as error:
            errors.append(error)
            continue
        below = [child for child in found[-1].children if child not in seen]
        seen.update(below)  # a record may say that it is its own child
        waiting[:0] = below
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
