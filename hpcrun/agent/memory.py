"""Kills for memory, as the kernel counts them per step. Standard library only (Python 3.8+).

Slurm's cgroups are …/job_<id>/step_<name>/…. Version 1 counts in the group of the killed process
(memory.oom_control), version 2 in all groups above it too (memory.events).
"""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

COUNTER = "oom_kill"


class JobGroup(NamedTuple):
    """The control group of a job. unified: whether it is one of version 2."""

    path: str
    unified: bool


class MemoryKills:
    """Follows the kills in all steps of this job that run on this node."""

    def __init__(self, job: Optional[JobGroup], host: str) -> None:
        self._job = job
        self._host = host
        self._seen = self._counts()

    def new(self) -> List[Dict[str, Any]]:
        """The data of an `out_of_memory` fact for each step with kills since the last call."""
        facts = []
        for step, count in self._counts().items():
            kills = count - self._seen.get(step, 0)
            if kills > 0:
                self._seen[step] = count
                facts.append(_fact(step, kills, self._host))
        return facts

    def _counts(self) -> Dict[str, int]:
        if self._job is None:
            return {}
        steps = [name for name in _listed(self._job.path) if name.startswith("step_")]
        return {step: self._count(os.path.join(self._job.path, step)) for step in steps}

    def _count(self, path: str) -> int:
        if self._job is not None and self._job.unified:
            return _counter(os.path.join(path, "memory.events"))
        walk = os.walk(path)
        return sum(_counter(os.path.join(folder, "memory.oom_control")) for folder, _, _ in walk)


def of_rank(rank: int, host: str) -> Dict[str, Any]:
    """The data of an `out_of_memory` fact of a rank whose shim saw it in its own group."""
    return {"evidence": f"the kernel killed rank {rank} for memory on {host}", "host": host}


def job_group(controller: str = "memory") -> Optional[JobGroup]:
    """The control group of the job this process is in; None outside Slurm.

    controller: of which hierarchy, where each has its own (version 1).
    """
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            memberships = file.read().splitlines()
        with open("/proc/self/mounts", encoding="utf-8") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return None
    return next(job_groups(memberships, mounts, controller), None)


def job_groups(
    memberships: List[str], mounts: List[List[str]], controller: str = "memory"
) -> Iterator[JobGroup]:
    """The job's group in the lines of /proc/self/cgroup, where it is mounted."""
    for membership in memberships:
        number, controllers, path = membership.split(":", 2)
        unified = number == "0"
        parts = path.split("/")
        depth = next((n for n, part in enumerate(parts) if part.startswith("job_")), None)
        if depth is None or not (unified or controller in controllers.split(",")):
            continue
        for _, point, kind, options, *_ in mounts:
            wanted = kind == "cgroup" and controller in options.split(",")
            if kind == "cgroup2" if unified else wanted:
                yield JobGroup(point + "/".join(parts[: depth + 1]), unified)


def _listed(path: str) -> List[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _counter(path: str) -> int:
    """The counter in a file of `name value` lines; 0 if the group is gone."""
    try:
        with open(path, encoding="ascii") as file:
            values = dict(line.split() for line in file)
    except (OSError, ValueError):
        return 0
    return int(values.get(COUNTER, 0))


def _fact(step: str, kills: int, host: str) -> Dict[str, Any]:
    processes = "a process" if kills == 1 else f"{kills} processes"
    return {
        "evidence": f"the kernel killed {processes} for memory in {step} on {host}",
        "step": step[len("step_") :],
        "host": host,
    }
