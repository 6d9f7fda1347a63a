"""A submission that was cut: which job there is, or that there is none and never will be.

A job claims its submission before user code, by link(). Who finds no job takes that claim, and a
job that comes all the same ends as a duplicate: the answer is no guess by the clock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hpcrun.errors import SchedulerError
from hpcrun.layout import JournalKind, UserPaths
from hpcrun.ports import JobId
from hpcrun.record import Fact, RunRecord
from hpcrun.scheduler.process import ProcessName, start_ticks
from hpcrun.store import FileStore
from hpcrun.store.deciding import decide

WITHDRAWN = "none (withdrawn)"
"""Stands in a claim in place of a job's id."""

PATIENCE = 300.0
"""Seconds for which a client that lives, or cannot be seen from here, may still be submitting."""

SETTLING = 60.0
"""Seconds in which a job may yet appear that a busy controller did not acknowledge."""

_PROC = Path("/proc")


def this_client() -> dict[str, str]:
    """What a submission tells of the process that makes it: others can see whether it lives."""
    ticks = start_ticks(os.getpid())
    if ticks is None:
        return {}
    return {"client": str(ProcessName(_host(), os.getpid(), ticks)), "pids": _pids()}


def job_of(
    record: RunRecord, store: FileStore, find: Callable[[str], Sequence[JobId]]
) -> str | None:
    """The id of a cut submission's job; WITHDRAWN: there is none; None: nothing new is known.

    find: the ids of the jobs of a name. SchedulerError, StoreError.
    """
    paths, submission = store.paths(record.run_id), record.attempt.attempt.submission
    sought = _sought(record, store)
    goes_on = _goes_on(record, _told(record, store), sought.script)
    # From here on everything can be seen that a client which is gone has told or done.
    told = _told(record, store)
    if "submitted" in told or "submit_failed" in told:
        return None
    claimed = store.claimed(paths, submission)
    if claimed is not None:
        return claimed
    found = find(sought.name) if "submitting" in told else ()
    if sought.element is not None:
        found = [job for job in found if job == element_of(array_of(job), sought.element)]
    job_id = first_unknown(found, known_jobs(record))
    if job_id is not None:
        return job_id
    if goes_on or _settles(told):
        return None
    return store.claim(paths, submission, WITHDRAWN)


class _Sought(NamedTuple):
    """By what a job is found: its script, its name, and which element it is of an array."""

    script: str
    name: str
    element: int | None = None


def _sought(record: RunRecord, store: FileStore) -> _Sought:
    task = record.request.get("task")
    if task is None or record.parent is None or record.attempt.attempt.submission > 1:
        return _Sought(store.paths(record.run_id).script, record.run_id)
    return _Sought(store.paths(record.parent).script, task["array"], task["element"])


def goes_on(record: RunRecord, store: FileStore) -> bool:
    """Whether the client of a run's newest submission may be at work."""
    return _goes_on(record, _told(record, store), store.paths(record.run_id).script)


def expect_alone(own: UserPaths, run_id: str, submission: int) -> None:
    """SchedulerError if another process is at the same submission of a run: of two that begin it at
    once, one does it. StoreError.

    own: the folders in which the run lies.
    """
    mine = {**this_client(), "time": time.time()}
    text = decide(own, f"{run_id}-{submission}", json.dumps(mine))
    try:
        first: dict[str, Any] = json.loads(text)
        is_late = abs(time.time() - first["time"]) >= PATIENCE
    except (ValueError, TypeError, LookupError):
        return  # the host that wrote it has crashed
    if first.get("client") != mine.get("client") and not (is_late or _is_gone(first)):
        message = f"run {run_id} is being submitted again by process {first.get('client')}"
        raise SchedulerError(message, "look at it in a minute", transient=True)


def array_of(job_id: str) -> str:
    """The array that an element `A_a` is of, with its cluster; another job is its own."""
    number, semicolon, cluster = job_id.partition(";")
    return number.partition("_")[0] + semicolon + cluster


def element_of(array: str, element: int) -> str:
    """The id `A_a` of an element of an array."""
    number, semicolon, cluster = array.partition(";")
    return f"{number}_{element}{semicolon}{cluster}"


def known_jobs(record: RunRecord) -> frozenset[str]:
    """The jobs of the submissions before the newest."""
    newest = record.attempt.attempt.submission
    earlier = (a.job_id for a in record.attempts if a.attempt.submission != newest)
    return frozenset(job_id for job_id in earlier if job_id is not None)


def first_unknown(found: Iterable[str], known: Iterable[str]) -> str | None:
    """Of a run's jobs, which all have one name, the first that is none of the known ones.

    An id may stand with its cluster (`123;cluster`) or without.
    """
    numbers = {job_id.partition(";")[0] for job_id in known}
    return next((job_id for job_id in found if job_id.partition(";")[0] not in numbers), None)


def _told(record: RunRecord, store: FileStore) -> Mapping[str, Fact]:
    """What is told of the newest attempt, by kind."""
    facts, _ = store.facts(store.paths(record.run_id), JournalKind.FACTS)
    return {fact.kind: fact for fact in facts if fact.attempt == record.attempt.attempt}


def _goes_on(record: RunRecord, told: Mapping[str, Fact], script: str) -> bool:
    """Whether a client, or an sbatch that it left behind, may be at work."""
    if "submit_unknown" in told:
        return False
    begun = told.get("submitting")
    age = abs(time.time() - (begun.time if begun else record.created))
    client = begun.data if begun else record.request
    return _is_handed_over(script) if _is_gone(client) else age < PATIENCE


def _is_gone(client: Mapping[str, Any]) -> bool:
    """Whether a client is seen to have ended."""
    process = ProcessName.parse(client.get("client", ""))
    seen = process is not None and process.host == _host() and client.get("pids") == _pids()
    return process is not None and seen and not process.runs


def _settles(told: Mapping[str, Fact]) -> bool:
    """Whether a busy controller may yet make the job that it did not acknowledge."""
    unknown = told.get("submit_unknown")
    return unknown is not None and abs(time.time() - unknown.time) < SETTLING


def _is_handed_over(script: str) -> bool:
    """Whether an sbatch goes on that a killed client left behind."""
    words = b"\0--parsable\0" + os.fsencode(script) + b"\0"
    return any(words in _command(entry) for entry in _PROC.iterdir() if entry.name.isdecimal())


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def _host() -> str:
    return os.uname().nodename


def _pids() -> str:
    """Names the world in which pids of this process mean something (containers have their own)."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
