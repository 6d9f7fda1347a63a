"""Bringing records up to date: the agent tells, the scheduler is asked only when it must be.

It is asked when a job waits, when the agent is silent, when the agent was told to stop and only
the scheduler knows why, and when a submission was cut. One question serves all runs of a user.
What is found is written down; where that cannot be done, it is told all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hpcrun.errors import HpcrunError, SchedulerError, StoreError
from hpcrun.fold import fold
from hpcrun.layout import INTERACTIVE, LOCAL, Attempt, JournalKind, task_ids
from hpcrun.ports import JobId, JobWord, Scheduler
from hpcrun.record import Fact, RunRecord
from hpcrun.state import Cause, State
from hpcrun.store import FileStore
from hpcrun.workflow.forgotten import if_all, is_forgotten, is_known, of_unknown
from hpcrun.workflow.interactive import LOST, NEVER_BEGUN, end_of, is_left, is_silent
from hpcrun.workflow.liveness import Heartbeats

JobsOf = Callable[[str], Mapping[JobId, JobWord]]
"""All of the user's jobs behind a target."""

LivesOf = Callable[[str, JobId, Callable[[Sequence[JobWord]], bool]], Sequence[JobWord]]
"""All that is known of a target's job; unless what was said before is enough, it is asked anew."""

NOT_REFRESHED = "not refreshed: "
"""How the problem of a record begins that may be out of date."""

CUT = "no word from its submission: "
"""How the problem of a record begins that has just been found out about."""

NO_JOB = "the submission was cut before the scheduler had the job; there is no job"


def refresh(
    records: Iterable[RunRecord],
    store: FileStore,
    scheduler_of: Callable[[str], Scheduler],
    jobs_of: JobsOf,
    lives_of: LivesOf,
    heartbeats: Heartbeats,
) -> list[RunRecord]:
    """The records, each joined with the scheduler's word where one is needed.

    scheduler_of, jobs_of, lives_of: by target. Where a scheduler does not answer, or its site file
    is broken, the record says so and is what it was.
    """
    jobs, lives_of = _once(jobs_of), unless_away(lives_of)
    return [
        record  # no scheduler and no node here knows of it
        if record.imported is not None
        else _judged(record, store, heartbeats)
        if record.target == INTERACTIVE
        else _of_tasks(record, store, scheduler_of, jobs, lives_of, heartbeats)
        if record.request.get("tasks")
        else _refreshed(record, store, scheduler_of, jobs, lives_of, heartbeats)
        if record.user == store.user
        else record
        for record in records
    ]


def _once(jobs_of: JobsOf) -> JobsOf:
    """The same, for many records: who does not answer is not asked again for each of them."""
    told: dict[str, Mapping[JobId, JobWord] | SchedulerError] = {}

    def jobs(target: str) -> Mapping[JobId, JobWord]:
        site = target.partition("/")[0]
        if site not in told:
            try:
                told[site] = jobs_of(target)
            except SchedulerError as error:
                told[site] = error
        answer = told[site]
        if isinstance(answer, SchedulerError):
            raise answer
        return answer

    return jobs


def unless_away(lives_of: LivesOf) -> LivesOf:
    """The same, for many records: who is away is not asked again for each of them."""
    away: dict[str, SchedulerError] = {}

    def lives(
        target: str, job_id: JobId, is_enough: Callable[[Sequence[JobWord]], bool]
    ) -> Sequence[JobWord]:
        site = target.partition("/")[0]
        if site in away:
            raise away[site]
        try:
            return lives_of(target, job_id, is_enough)
        except SchedulerError as error:
            # Of local jobs each host knows its own.
            if error.transient and site != LOCAL:
                away[site] = error
            raise

    return lives


def _judged(record: RunRecord, store: FileStore, heartbeats: Heartbeats) -> RunRecord:
    """An interactive run has no scheduler that could be asked."""
    if record.state.is_end or not is_silent(record, heartbeats):
        return record
    attempt = record.attempt.attempt
    if record.user == store.user and is_left(record, store):
        why = LOST if record.started is not None else NEVER_BEGUN
        return _noted(record, store, attempt, "ended", end_of(Cause.LOST, why))
    if record.started is None:
        return record  # its process may begin it yet
    word = JobWord(State.NOT_RESPONDING, "")
    return _with_fact(record, store, attempt, "scheduler", fact_data(word))


def _refreshed(
    record: RunRecord,
    store: FileStore,
    scheduler_of: Callable[[str], Scheduler],
    jobs_of: JobsOf,
    lives_of: LivesOf,
    heartbeats: Heartbeats,
) -> RunRecord:
    past = _unexplained(record)
    asks = _must_ask(record, heartbeats)
    if not asks and not past:
        return record
    try:
        if record.job_id is None:
            return _found_again(record, store, scheduler_of(record.target), jobs_of)
        job_id = JobId(record.job_id)
        word = jobs_of(record.target).get(job_id) if asks else None
        lives: Sequence[JobWord] = ()
        if word is not None and _attempt_of(record, word) > record.attempt.attempt:
            # Before anything is said of the one before: a run that waits has not ended.
            data = {"state": str(State.QUEUED), "raw": word.raw}
            record = _noted(record, store, _attempt_of(record, word), "scheduler", data)
            past = _unexplained(record)
        if past or word is None or (word.state.is_end and not _says_all(record, word)):
            # The list of jobs tells neither who canceled nor how a step or an earlier life ended.
            is_sought = asks and (word is None or word.state.is_end)

            def is_enough(told: Sequence[JobWord]) -> bool:
                """What was said before; that nobody knows it is asked anew before it counts."""
                if not is_known(told, record) and is_forgotten(record, heartbeats):
                    return False
                return not is_sought or _tell_end(told, word)

            lives = if_all(lives_of(record.target, job_id, is_enough), record)
    except HpcrunError as error:
        return _with_problem(record, NOT_REFRESHED + error.message)
    for attempt in past if lives or is_forgotten(record, heartbeats) else ():
        for told in _told_of(attempt, lives):
            # While the next attempt waits, sacct may still hear of the end of this one.
            if told.raw or record.attempt.started is not None:
                record = _noted(record, store, attempt, "scheduler", fact_data(told))
    if not asks:
        return record
    word = lives[-1] if lives else word
    if word is None or word.state is State.NOT_RESPONDING:
        word = of_unknown(record, word, heartbeats) or word
    return record if word is None else _joined(record, word, store)


def _of_tasks(
    record: RunRecord,
    store: FileStore,
    scheduler_of: Callable[[str], Scheduler],
    jobs_of: JobsOf,
    lives_of: LivesOf,
    heartbeats: Heartbeats,
) -> RunRecord:
    """A run that is made of independent tasks has no job of its own: it is what they are."""
    if record.state.is_end:
        return record
    from hpcrun.workflow.cut import goes_on
    from hpcrun.workflow.gathering import arrays_of, gathered

    count, own = record.request["tasks"]["count"], record.user == store.user
    ids = task_ids(record.run_id, count)
    tasks = [store.read(task, record.user) for task in ids if store.has(task, record.user)]
    makers = (record, *tasks[-1:]) if own and len(tasks) < count else ()
    are_made = not any(goes_on(each, store) for each in makers)
    if own:
        tasks = [_refreshed(t, store, scheduler_of, jobs_of, lives_of, heartbeats) for t in tasks]
    problems = list(dict.fromkeys(problem for task in tasks for problem in task.problems))
    attempt, jobs = record.attempt.attempt, arrays_of(tasks)
    if own and are_made and jobs is not None and record.job_id is None:
        record = _noted(record, store, attempt, "submitted", {"job_id": jobs})
    kind, data = gathered(count, tasks, are_made)
    if kind == "ended" and own:
        record = _noted(record, store, attempt, kind, data)
    else:
        record = _with_fact(record, store, attempt, kind, data)
    return record._replace(problems=(*record.problems, *problems))


def _tell_end(lives: Sequence[JobWord], word: JobWord | None) -> bool:
    """Whether lives that were told before tell an end, or that nobody knows the job.

    word: on the life that has ended, in the queue; None: it is there no more.
    """
    if not lives or lives[-1].state is State.NOT_RESPONDING:
        return word is None
    restart = lives[-1].restart
    return lives[-1].state.is_end and (word is None or restart in (None, word.restart))


def _says_all(record: RunRecord, word: JobWord) -> bool:
    """Whether nobody knows more of an end: what a user canceled here before it had a node."""
    own = record.state is State.CANCEL_REQUESTED and record.started is None
    return own and word.cause is Cause.CANCELED and not word.nodes


def _unexplained(record: RunRecord) -> list[Attempt]:
    """The attempts of the newest job that another followed, where only the scheduler knows why."""
    submission = record.attempt.attempt.submission
    return [
        earlier.attempt
        for earlier in record.attempts[:-1]
        if earlier.awaits_scheduler and earlier.attempt.submission == submission
    ]


def _must_ask(record: RunRecord, heartbeats: Heartbeats) -> bool:
    attempt = record.attempt
    if attempt.awaits_scheduler:
        return True
    if record.state.is_end:
        return False
    if attempt.started is None:
        return True
    return heartbeats.silent(record.run_id, str(attempt.attempt), attempt.heartbeats)


def _told_of(attempt: Attempt, lives: Sequence[JobWord]) -> Sequence[JobWord]:
    """The word on an attempt that another followed, if there is one yet.

    Where nobody remembers the job, no more will be known than that it was requeued.
    """
    if not lives:
        return [JobWord(State.FAILED, "", Cause.REQUEUED)]
    return [word for word in lives if word.restart == attempt.restart and word.state.is_end]


def _found_again(
    record: RunRecord,
    store: FileStore,
    scheduler: Scheduler,
    jobs_of: JobsOf,
) -> RunRecord:
    """A submission that was cut: exactly one job, or none."""
    from hpcrun.workflow.cut import WITHDRAWN, job_of

    def find(name: str) -> Sequence[JobId]:
        jobs_of(record.target)  # where there is no answer, none is looked for
        return scheduler.find(name)

    job, attempt = job_of(record, store, find), record.attempt.attempt
    if job is None:
        record = store.read(record.run_id)
        open_yet = record.job_id is None and record.verdict is None
        problem = "whether it has a job is not known yet"
        return _with_problem(record, problem) if open_yet else record
    if job == WITHDRAWN:
        hint = f"`hpcrun resubmit {record.run_id}` hands it over"
        record = _noted(record, store, attempt, "submit_failed", {"message": NO_JOB, "hint": hint})
        return _with_problem(record, f"{CUT}there is no job; {hint}")
    record = _noted(record, store, attempt, "submitted", {"job_id": job, "found": True})
    return _with_problem(record, f"{CUT}it has job {job} all the same, and goes on")


def _joined(record: RunRecord, word: JobWord, store: FileStore) -> RunRecord:
    """The record with the scheduler's word in it; an end is written down, a state is not."""
    attempt = _attempt_of(record, word)
    if not word.state.is_end:
        return _with_fact(record, store, attempt, "scheduler", fact_data(word))
    data = {**fact_data(word), **_log_of(record, attempt, store)}
    return _noted(record, store, attempt, "scheduler", data)


def _log_of(record: RunRecord, attempt: Attempt, store: FileStore) -> Mapping[str, list[str]]:
    """The end of the batch log, where no agent reported: nobody else has read it.

    Requeues write to the same log, so that only a submission's first attempt is sure of it.
    """
    newest = record.attempt
    if newest.attempt != attempt or newest.started is not None or attempt.restart:
        return {}
    from hpcrun.agent.evidence import last_lines

    lines = last_lines(store.paths(record.run_id).batch_log(attempt.submission))
    return {"log": lines} if lines else {}


def _noted(
    record: RunRecord, store: FileStore, attempt: Attempt, kind: str, data: Mapping[str, Any]
) -> RunRecord:
    """The record with a fact that is written down, where that can be done."""
    try:
        store.append(store.paths(record.run_id), attempt, kind, data)
    except StoreError as error:
        told = _with_fact(record, store, attempt, kind, data)
        return _with_problem(told, f"not written down: {error.message}")
    return store.read(record.run_id)


def _with_fact(
    record: RunRecord, store: FileStore, attempt: Attempt, kind: str, data: Mapping[str, Any]
) -> RunRecord:
    facts, bad = store.facts(store.paths(record.run_id, record.user), JournalKind.FACTS)
    return fold(record.request, [*facts, Fact(kind, attempt, time.time(), 0, data, "~")], bad)


def _with_problem(record: RunRecord, message: str) -> RunRecord:
    return record._replace(problems=(*record.problems, message))


def _attempt_of(record: RunRecord, word: JobWord) -> Attempt:
    newest = record.attempt.attempt
    return newest if word.restart is None else Attempt(newest.submission, word.restart)


def fact_data(word: JobWord) -> dict[str, Any]:
    """A scheduler's word as the data of a fact; what it did not tell is left out."""
    data = {
        "state": str(word.state),
        "cause": str(word.cause) if word.cause is not None else None,
        "raw": word.raw,
        "reason": word.reason or None,
        "exit_code": word.exit_code,
        "signal": word.signal,
        "nodes": list(word.nodes) or None,
        "starts": word.starts,
        "end": word.end,
        "by": word.by,
    }
    return {key: value for key, value in data.items() if value is not None}
