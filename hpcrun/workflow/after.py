"""Runs that wait for others: what the scheduler is told, and what is refused before it is asked.

Slurm forgets jobs, and what it has forgotten counts as done (22.05): so what has ended already is
judged here, by its own record, and the agent judges once more before user code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpcrun.errors import PlanError, Problem, SchedulerError
from hpcrun.layout import LOCAL
from hpcrun.plan import Awaiting
from hpcrun.record import RunRecord
from hpcrun.state import State


def is_satisfied(awaiting: Awaiting, record: RunRecord) -> bool:
    """Whether a run has ended as it must."""
    return record.state == State.COMPLETED or (
        record.has_ended and awaiting.condition == "afterany"
    )


def dependency(
    awaiting: Awaiting,
    records: Sequence[RunRecord],
    target: str,
    tasks_of: Callable[[RunRecord], Sequence[RunRecord]] = lambda record: (),
) -> tuple[str, ...]:
    """sbatch's options for a run that waits for others; none where nothing has to be waited for.

    records: of the runs that it waits for, up to date. target: of the run itself. tasks_of: the
    independent tasks that a run is made of. PlanError: they have ended otherwise, or go on where
    this target does not hear of it. SchedulerError, transient: one has no job yet.
    """
    done = [record for record in records if is_satisfied(awaiting, record)]
    if len(done) == len(records) or (awaiting.any_of and done):
        return ()
    failed = [r for r in records if r.has_ended and r not in done]
    if failed and (not awaiting.any_of or len(failed) == len(records)):
        raise PlanError(*(_refusal(record) for record in failed))
    live = [record for record in records if not record.has_ended]
    site = target.partition("/")[0]
    elsewhere = [r for r in live if r.target.partition("/")[0] != site]
    if elsewhere:
        raise PlanError(
            *(
                Problem(
                    f"run {r.run_id} goes on at {r.target}, and {target} does not hear of its end",
                    f"submit this one when that has ended: hpcrun wait {r.run_id}",
                )
                for r in elsewhere
            )
        )
    if site == LOCAL:
        return ()
    jobs = [(record, _numbers(record, tasks_of)) for record in live]
    return f"--dependency={_text(awaiting, jobs)}", "--kill-on-invalid-dep=yes"


def _text(awaiting: Awaiting, jobs: Sequence[tuple[RunRecord, Sequence[str]]]) -> str:
    """Slurm takes one kind of separator: a comma for all of them, a question mark for any."""
    is_any = awaiting.any_of and len(jobs) > 1
    several = [(run, len(numbers)) for run, numbers in jobs if is_any and len(numbers) > 1]
    if several:
        raise PlanError(
            *(
                Problem(
                    f"run {run.run_id} goes on in {count} jobs, and Slurm cannot wait for one of"
                    " several runs where one is several jobs",
                    f"wait for all of them, or for its end first: hpcrun wait {run.run_id}",
                )
                for run, count in several
            )
        )
    separator = "?" if is_any else ","
    return separator.join(f"{awaiting.condition}:{job}" for _, each in jobs for job in each)


def _numbers(
    record: RunRecord, tasks_of: Callable[[RunRecord], Sequence[RunRecord]]
) -> Sequence[str]:
    """Of a run that is made of independent tasks, their arrays' jobs; where one was submitted
    again, whose array has failed for ever, the jobs of those that go on."""
    again = tasks_of(record) if len(record.attempts) > 1 else ()
    jobs = [task.job_id for task in again if not task.has_ended] or [record.job_id]
    if None in jobs:
        raise SchedulerError(
            f"run {record.run_id} has no job yet that could be waited for",
            "its submission may be going on: try again in a minute",
            transient=True,
        )
    return [one.partition(";")[0] for job in jobs if job is not None for one in job.split(",")]


def _refusal(record: RunRecord) -> Problem:
    verdict = f": {record.verdict.sentence}" if record.verdict else ""
    return Problem(
        f"run {record.run_id}, which this one waits for, is {record.state}{verdict}",
        f"hpcrun resubmit {record.run_id} first, or wait for any end: after.condition=afterany",
    )
