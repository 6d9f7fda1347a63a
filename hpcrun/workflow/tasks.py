"""Submission of independent tasks: a child run for each, a job array for as many as fit into one.

Each task is a run by itself before sbatch is called: its record has the script that would run it
alone. The parent's script chooses one by the index. What is cut is found out task by task, by the
array's name and the index in it: the element's job, or that there is none and never will be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcrun.errors import OutcomeUnknown, PlanError, Problem, SchedulerError, StoreError
from hpcrun.layout import Attempt, RunPaths, task_ids
from hpcrun.plan import Tasks
from hpcrun.ports import Scheduler, Submission
from hpcrun.record import RunRecord
from hpcrun.rights import kept_to
from hpcrun.store import FileStore
from hpcrun.workflow.cut import array_of, element_of
from hpcrun.workflow.prepare import Prepared
from hpcrun.workflow.request import request_of_task
from hpcrun.workflow.sent import go_on
from hpcrun.workflow.submit import (
    keep_source,
    not_known_yet,
    refused,
    submission_of,
    unwritten,
    write_intent,
)


@dataclass(frozen=True)
class Chunk:
    """The tasks of one array. name: of its job. first: its first task. at_once: None: all."""

    name: str
    first: int
    count: int
    at_once: int | None

    @property
    def options(self) -> tuple[str, ...]:
        """What sbatch gets besides the script's directives."""
        at_once = f"%{self.at_once}" if self.at_once is not None else ""
        return f"--job-name={self.name}", f"--array=0-{self.count - 1}{at_once}"

    @property
    def tasks(self) -> range:
        """The numbers of its tasks."""
        return range(self.first, self.first + self.count)


def chunks_of(run_id: str, tasks: Tasks, size: int) -> Sequence[Chunk]:
    """The arrays of at most `size` tasks. PlanError: fewer are to run at once than there are."""
    if size < 1:
        message = f"MaxArraySize is {size}: this cluster takes no job arrays"
        raise PlanError(Problem(message, "submit each task as a run of its own"))
    firsts = range(0, tasks.count, size)
    limit = tasks.at_once
    if limit is not None and limit < len(firsts):
        message = (
            f"{tasks.count} tasks are {len(firsts)} arrays of at most {size} (MaxArraySize), which"
            f" cannot run {limit} at once: each runs one at least"
        )
        hint = f"distributed_job_config.max_parallel: {len(firsts)}, or more"
        raise PlanError(Problem(message, hint))
    share, more = divmod(limit or 0, len(firsts))
    return [
        Chunk(
            f"{run_id}.{number}",
            first,
            min(size, tasks.count - first),
            None if limit is None else share + (number < more),
        )
        for number, first in enumerate(firsts)
    ]


def submit_tasks(
    prepared: Prepared,
    store: FileStore,
    scheduler: Scheduler,
    parent: str | None = None,
    options: Sequence[str] = (),
) -> RunRecord:
    """Submits a run that is made of independent tasks, and gives its record; see `submit`."""
    plan, tasks = prepared.plan, prepared.plan.tasks
    assert tasks is not None
    scheduler.check()
    size = prepared.site.scheduler.max_array_size
    chunks = chunks_of(plan.run_id, tasks, scheduler.array_size() if size is None else size)
    request = keep_source(prepared, store)
    above = {"parent": parent} if parent is not None else {}
    own = {"tasks": {"count": tasks.count, "at_once": tasks.at_once}}
    paths = write_intent(plan, {**request, **above, **own}, prepared.script.text, store)
    if prepared.sent is not None:
        go_on(store, plan.run_id)
    for chunk in chunks:
        try:
            _write_tasks(chunk, prepared, request, store)
        except StoreError:
            if not chunk.first:
                store.discard(plan.run_id)
            raise
        _submit_chunk(chunk, paths, store, scheduler, options)
    return store.read(plan.run_id)


def _write_tasks(
    chunk: Chunk, prepared: Prepared, request: Mapping[str, Any], store: FileStore
) -> None:
    """The tasks of an array as runs that are about to be submitted; where one fails, none.

    Just before it is submitted: who looks at them from elsewhere gives that some minutes.
    """
    written = []
    try:
        for element, index in enumerate(chunk.tasks):
            task, script = prepared.task(index)
            written.append(task.run_id)
            place = {"index": index, "array": chunk.name, "element": element}
            said = {"parent": prepared.plan.run_id, "task": place}
            write_intent(task, {**request_of_task(task, request), **said}, script.text, store)
    except StoreError:
        for run_id in written:
            store.discard(run_id)
        raise


def _submit_chunk(
    chunk: Chunk,
    paths: RunPaths,
    store: FileStore,
    scheduler: Scheduler,
    options: Sequence[str],
) -> None:
    """Hands an array over, and writes down for each of its tasks what became of it."""
    attempt = Attempt(1)
    runs = [store.paths(run_id) for run_id in task_ids(paths.run_id, chunk.tasks.stop)]
    runs = runs[chunk.first :]
    told = f"tasks {chunk.first} to {chunk.tasks.stop - 1} of run {paths.run_id}"
    try:
        array = _hand_over(chunk, paths, store, scheduler, options)
    except OutcomeUnknown as error:
        for run in runs:
            store.append(run, attempt, "submit_unknown", {"message": error.message})
        raise not_known_yet(f"{told} have jobs", paths.run_id, error) from error
    except SchedulerError as error:
        for run in runs:
            refused(error, attempt, run, store)
        if chunk.first:
            before = f"tasks 0 to {chunk.first - 1} are submitted"
            raise SchedulerError(f"{error.message}; {before}", error.hint) from error
        raise
    try:
        for element, run in enumerate(runs):
            store.append(run, attempt, "submitted", {"job_id": element_of(array, element)})
    except StoreError as error:
        # Each task's job is found again, or tells its id itself.
        raise unwritten(f"{told} are submitted as job {array}", error) from error


def _hand_over(
    chunk: Chunk,
    paths: RunPaths,
    store: FileStore,
    scheduler: Scheduler,
    options: Sequence[str],
) -> str:
    """Calls the scheduler once; gives the array's id."""
    told = submission_of(chunk.name, Attempt(1), paths)
    submission = Submission(
        told.script,
        told.name,
        told.folder,
        told.log,
        arguments=(str(chunk.first),),
        options=(*chunk.options, *options),
    )
    try:
        with kept_to(paths.owner.root):
            return scheduler.submit(submission)
    except OutcomeUnknown:
        try:
            found = [array_of(job_id) for job_id in scheduler.find(chunk.name)]
        except SchedulerError:
            found = []
        if found:
            return found[0]
        raise
