"""A process of this machine and its name for ever: host, pid, and its start in clock ticks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

JOB_ID = "HPCRUN_JOB_ID"
JOB_NAME = "HPCRUN_JOB_NAME"

_PROC = Path("/proc")


class ProcessName(NamedTuple):
    """Names one process; a pid alone is given again to another. ticks: since the boot."""

    host: str
    pid: int
    ticks: int

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.ticks}"

    @classmethod
    def parse(cls, text: str) -> ProcessName | None:
        host, _, rest = text.partition(":")
        pid, _, ticks = rest.partition(":")
        if not host or not pid.isdecimal() or not ticks.isdecimal():
            return None
        return cls(host, int(pid), int(ticks))

    @property
    def runs(self) -> bool:
        """Whether it runs on this machine; one that has ended and was not waited for does not."""
        return start_ticks(self.pid) == self.ticks


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot; None if it runs no more."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name before the last bracket may hold anything.
    fields = stat.rpartition(b") ")[2].split()
    return None if fields[:1] in ([b"Z"], [b"X"]) else int(fields[19])


def environment(pid: int) -> Mapping[str, str]:
    """What a process of this user was started with; nothing if it cannot be read."""
    try:
        items = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(item).partition("=") for item in items if item)
    return {name: value for name, _, value in pairs}


def own_jobs(host: str) -> Iterator[tuple[ProcessName, str]]:
    """(process, job's name) for each job that this user runs here.

    A job's own children find the same variables; only the first process has the job's pid.
    """
    user = os.geteuid()
    for entry in os.scandir(_PROC):
        if not entry.name.isdecimal():
            continue
        try:
            if entry.stat().st_uid != user:
                continue
        except OSError:
            continue
        given = environment(int(entry.name))
        name = ProcessName.parse(given.get(JOB_ID, ""))
        if name is not None and name.host == host and name.pid == int(entry.name) and name.runs:
            yield name, given.get(JOB_NAME, "")
