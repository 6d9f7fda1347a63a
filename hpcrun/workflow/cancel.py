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
    """Cancels a run and the children that it has; gives all of their records, its own first.
    ForeignRun.

    Children first: of one that ends with its job somebody has said so by then. One that has ended
    already is left as it is. Where one cannot be canceled, the others are all the same, and then
    the error is raised: of the run itself, if it has one.
    """
    session.store.expect_own(record.run_id, record.user)
    canceled: dict[str, RunRecord] = {}
    errors: dict[str, HpcrunError] = {}

    def reach(records: list[RunRecord]) -> None:
        for each in reversed(records):
            try:
                canceled[each.run_id] = _cancel(session, each)
            except HpcrunError as error:
                errors[each.run_id] = error

    family = _family(session, record)
    reach(family)
    made_since = _family(session, canceled.get(record.run_id, record))
    reach([each for each in made_since if each.run_id not in canceled.keys() | errors.keys()])
    if errors:
        raise errors.get(record.run_id) or next(iter(errors.values()))
    return [canceled[each.run_id] for each in made_since]


def _family(session: Session, record: RunRecord) -> list[RunRecord]:
    """A run, and all below it that is there; a record may say that it is its own child."""
    found, seen, waiting = [record], {record.run_id}, [*record.children]
    while waiting:
        run_id = waiting.pop(0)
        if run_id in seen or not session.store.has(run_id, record.user):
            continue
        seen.add(run_id)
        found.append(session.store.read(run_id, record.user))
        waiting += found[-1].children
    return found


def _cancel(session: Session, record: RunRecord) -> RunRecord:
    record = session.refreshed([record])[0]
    if record.state.is_end:
        return record
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
