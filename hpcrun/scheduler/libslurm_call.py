"""One call of libslurm, through pyslurm. A program: it is run by path, not imported.

libslurm ends the process that loads it where it finds no configuration (22.05), and nothing but a
kill reaches it while it waits for an answer: as a program of its own it does neither to hpcrun.
It prints one JSON value; or says why not, in Slurm's words, and exits with 1.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def main() -> int:
    """0 if there is an answer. The words are those of a call: its name, and a job's number."""
    name, *arguments = sys.argv[1:]
    try:
        import pyslurm
    except ImportError as error:
        sys.stderr.write(f"pyslurm cannot be imported: {error}\n")
        return 1
    try:
        told = _CALLS[name](pyslurm, *arguments)
    except pyslurm.PyslurmError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    json.dump(told, sys.stdout)
    return 0


def _version(pyslurm: Any) -> str:
    return str(pyslurm.__version__)


def _jobs(pyslurm: Any) -> list[Mapping[str, Any]]:
    """All of this user's jobs. libslurm gives everybody's: pyslurm asks for them no other way."""
    user = os.getuid()
    jobs = (job for job in pyslurm.Jobs.load().values() if job.user_id == user)
    return [_row(job, name) for job in jobs for name in _names(job)]


def _job(pyslurm: Any, number: str) -> Mapping[str, Any] | None:
    """A job by its number; None for one of several parts, which have names of their own."""
    job = pyslurm.Job.load(int(number))
    return _row(job, number) if list(_names(job)) == [number] else None


def _records(pyslurm: Any, number: str) -> list[Mapping[str, Any]]:
    """What slurmdbd has of the newest life of a job: none or one."""
    jobs = pyslurm.db.Jobs.load(pyslurm.db.JobFilter(ids=[int(number)])).values()
    return [_record(job) for job in jobs if str(job.id) == number and job.array_id is None]


def _cancel(pyslurm: Any, number: str) -> bool:
    """Whether it was for this call to end: one of several parts, or all of them, it is not."""
    job = pyslurm.Job.load(int(number))
    if list(_names(job)) != [number]:
        return False
    job.cancel()
    return True


_CALLS: Mapping[str, Callable[..., Any]] = {
    "version": _version,
    "jobs": _jobs,
    "job": _job,
    "records": _records,
    "cancel": _cancel,
}


def _row(job: Any, name: str) -> Mapping[str, Any]:
    return {
        "id": name,
        "state": job.state,
        "exit": f"{job.exit_code}:{job.exit_code_signal}",
        "reason": job.state_reason or "",
        "restart": job.requeue_count,
        "nodes": job.allocated_nodes or "",
        "start": job.start_time,
        "end": job.end_time,
    }


def _record(job: Any) -> Mapping[str, Any]:
    by = job.cancelled_by if job.state == "CANCELLED" else None
    return {
        "name": job.name or "",
        "state": f"{job.state} by {_uid(by)}" if by else job.state,
        "exit": f"{job.exit_code}:{job.exit_code_signal}",
        "reason": job.state_reason or "",
        "nodes": job.nodelist or "",
        "start": job.start_time,
        "end": job.end_time,
        "steps": [
            {
                "name": f"{job.id}.{step.id}",
                "state": step.state,
                "exit": f"{step.exit_code}:{step.exit_code_signal}",
            }
            for step in job.steps.values()
        ],
    }


def _uid(name: str) -> str:
    try:
        return str(pwd.getpwnam(name).pw_uid)
    except KeyError:
        return name


def _names(job: Any) -> Iterator[str]:
    """The names of what is one job to libslurm: the tasks of an array that wait are many."""
    if job.array_id is None:
        part = job.heterogeneous_id
        yield str(job.id) if part is None else f"{part}+{job.heterogeneous_offset or 0}"
    elif job.array_tasks_waiting is None:
        yield f"{job.array_id}_{job.array_task_id or 0}"  # pyslurm takes a 0 for none
    else:
        for task in _numbers(job.array_tasks_waiting):
            yield f"{job.array_id}_{task}"


def _numbers(text: str) -> Iterator[int]:
    """`0,3-5,7-15:2` as numbers."""
    for part in text.split(","):
        whole, _, stride = part.partition(":")
        first, _, last = whole.partition("-")
        yield from range(int(first), int(last or first) + 1, int(stride or 1))


if __name__ == "__main__":
    raise SystemExit(main())
