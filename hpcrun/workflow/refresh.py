"""Bringing records up to date: the agent tells, the scheduler is asked only when it must be.

It is asked when a job waits, when the agent is silent, when the agent was told to stop and only
the scheduler knows why, and when a submission was cut. One question serves all runs of a user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hpcrun.errors import SchedulerError
from hpcrun.fold import fold
from hpcrun.layout import Attempt, RunPaths
from hpcrun.ports import JobId, JobWord, Scheduler
from hpcrun.record import Fact, RunRecord
from hpcrun.state import Cause, State
from hpcrun.store import FileStore
from hpcrun.workflow.liveness import Heartbeats

GRACE = 60.0
"""Seconds in which a fresh submission may still be in the hands of the client that made it."""

FORGOTTEN = 120.0
"""Seconds for which a job that nobody knows is still waited for: sacct lags behind."""

Jobs = Callable[[], Mapping[JobId, JobWord]]
"""All jobs of the user, in one call; the answer may be shared and some seconds old."""


def refresh(
    records: Iterable[RunRecord],
    store: FileStore,
    scheduler_of: Callable[[str], Scheduler],
    jobs_of: Callable[[str], Mapping[JobId, JobWord]],
    heartbeats: Heartbeats,
) -> list[RunRecord]:
    """The records, each joined with the scheduler's word where one is needed.

    scheduler_of, jobs_of: by target. A scheduler that does not answer changes nothing.
    """
    return [
        _refreshed(record, store, scheduler_of, jobs_of)
        if record.user == store.user and _must_ask(record, heartbeats)
        else record
        for record in records
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


def _refreshed(
    record: RunRecord,
    store: FileStore,
    scheduler_of: Callable[[str], Scheduler],
    jobs_of: Callable[[str], Mapping[JobId, JobWord]],
) -> RunRecord:
    try:
        scheduler = scheduler_of(record.target)
        if record.job_id is None:
            return _found_again(record, store, scheduler)
        job_id = JobId(record.job_id)
        word = jobs_of(record.target).get(job_id) or scheduler.ended(job_id)
    except SchedulerError as error:
        return replace(record, problems=(*record.problems, f"not refreshed: {error.message}"))
    if word is None:
        word = _unknown(record)
    if word is None:
        return record
    return _joined(record, word, store)


def _found_again(record: RunRecord, store: FileStore, scheduler: Scheduler) -> RunRecord:
    """A submission that was cut: exactly one job of that name, or none."""
    age = time.time() - record.created
    if age < GRACE:
        return record
    paths, attempt = store.paths(record.run_id), record.attempt.attempt
    found: Sequence[JobId] = scheduler.find(record.run_id)
    if found:
        store.append(paths, attempt, "submitted", {"job_id": found[0], "found": True})
    elif age > FORGOTTEN:
        message = "the submission was cut before the scheduler had the job; there is no job"
        store.append(paths, attempt, "submit_failed", {"message": message})
    return store.read(record.run_id)


def _unknown(record: RunRecord) -> JobWord | None:
    """The word on a job that nobody remembers, once it has been gone for long enough."""
    if time.time() - (record.attempt.submitted or record.created) < FORGOTTEN:
        return None
    return JobWord(State.FAILED, "unknown to the scheduler", Cause.LOST)


def _joined(record: RunRecord, word: JobWord, store: FileStore) -> RunRecord:
    """The record with the scheduler's word in it; an end is written down, a state is not."""
    paths = store.paths(record.run_id)
    attempt = _attempt_of(record, word)
    data = fact_data(word)
    if word.state.is_end:
        store.append(paths, attempt, "scheduler", data)
        return store.read(record.run_id)
    return _with_fact(record, paths, store, Fact("scheduler", attempt, time.time(), 0, data, "~"))


def _with_fact(record: RunRecord, paths: RunPaths, store: FileStore, fact: Fact) -> RunRecord:
    facts, bad = store.facts(paths, metrics=False)
    return fold(record.request, [*facts, fact], bad)


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
