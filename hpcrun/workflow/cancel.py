"""Asking for a run's end, and telling who did: the verdict then knows who it was."""

from __future__ import annotations

from hpcrun.errors import HpcrunError, SchedulerError
from hpcrun.layout import INTERACTIVE
from hpcrun.ports import JobId
from hpcrun.record import RunRecord
from hpcrun.state import Cause
from hpcrun.workflow.cut import array_of
from hpcrun.workflow.interactive import end
from hpcrun.workflow.mirrored import expect_here
from hpcrun.workflow.session import Session


def cancel(session: Session, record: RunRecord) -> list[RunRecord]:
    """Cancels a run and the children that it has; gives all of their records, its own first.
    ForeignRun.

    Children first: of one that ends with its job somebody has said so by then. One that has ended
    already is left as it is. Where one cannot be canceled, the others are all the same, and then
    the error is raised: of the run itself, if it has one. SchedulerError: it is a mirror.
    """
    session.store.expect_own(record.run_id, record.user)
    for each in _family(session, record):
        if not each.state.is_end:
            expect_here(each, "cancel")
    canceled: dict[str, RunRecord] = {}
    errors: dict[str, HpcrunError] = {}

    def reach(records: list[RunRecord]) -> None:
        for each in reversed(records):
            try:
                canceled[each.run_id] = _cancel(session, each)
            except HpcrunError as error:
                errors[each.run_id] = error

    family = _family(session, record)
    canceled.update((each.run_id, each) for each in _cancel_arrays(session, family))
    reach([each for each in family if each.run_id not in canceled])
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


def _cancel_arrays(session: Session, family: list[RunRecord]) -> list[RunRecord]:
    """Cancels the job arrays of independent tasks; gives the records of the tasks that this ends.

    At once: one by one, each that ends would let the next begin. What cannot be canceled so is
    left to be canceled by itself.
    """
    tasks: dict[tuple[str, str], list[RunRecord]] = {}
    for record in session.refreshed(each for each in family if each.request.get("task")):
        if not record.state.is_end and record.job_id is not None and "_" in record.job_id:
            tasks.setdefault((record.target, array_of(record.job_id)), []).append(record)
    canceled = []
    for (target, array), records in tasks.items():
        if len(records) == 1:
            continue
        try:
            session.cancel_job(target, JobId(array))
        except SchedulerError:
            continue
        canceled += [_told(session, record) for record in records]
    return canceled


def _cancel(session: Session, record: RunRecord) -> RunRecord:
    record = session.refreshed([record])[0]
    if record.state.is_end:
        return record
    if record.request.get("tasks"):
        return _told(session, record)
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
    return _told(session, record)


def _told(session: Session, record: RunRecord) -> RunRecord:
    paths = session.store.paths(record.run_id)
    session.store.append(paths, record.attempt.attempt, "cancel_requested", {"by": session.user})
    return session.store.read(record.run_id)
