"""The run's processes on this node: what its tasks wrote about themselves in the spool, and what
carries the attempt's variables. Standard library only (Python 3.8+).

`starts` has a line `rank pid ticks` of each, `exits` a line `rank status unixtime host`, to which
`memory` is added if the kernel killed for memory. ticks is when the process began, as the kernel
counts: with it a pid names one process for ever.
"""

from __future__ import annotations

import os
from typing import AbstractSet, Any, Dict, List, Optional, Set

from hpcrun.agent.process import signal_group
from hpcrun.agent.setting import Setting
from hpcrun.layout import ATTEMPT_VARIABLE, RECORD_VARIABLE

STARTS = "starts"
EXITS = "exits"
MEMORY = "memory"


class Exits:
    """Follows the exit statuses of this node's ranks."""

    def __init__(self, spool: str) -> None:
        self._path = os.path.join(spool, EXITS)
        self._offset = 0

    def new(self) -> List[Dict[str, Any]]:
        """The data of a `rank_ended` fact for each exit since the last call. OSError."""
        text = _read(self._path, self._offset)
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        ends = [_rank_end(line) for line in whole.decode("utf-8", "replace").splitlines()]
        return [end for end in ends if end is not None]


def groups(spool: Optional[str]) -> Set[int]:
    """The process groups of the ranks that run on this node."""
    return set(_running(spool).values())


def pids(spool: str) -> Set[int]:
    """The processes of the ranks that run on this node: their shims, whose child is the command."""
    return set(_running(spool))


def _running(spool: Optional[str]) -> Dict[int, int]:
    """pid → group of each rank that runs on this node."""
    lines = _read(os.path.join(spool, STARTS)).split(b"\n") if spool else []
    starts = [line.split() for line in lines]
    found = [(start, _group(start)) for start in starts]
    return {int(start[1]): group for start, group in found if group is not None}


def _group(start: List[bytes]) -> Optional[int]:
    """The group of the rank in a line of `starts`, if it still runs."""
    if len(start) != 3 or not start[1].isdigit():
        return None
    stat = _stat(int(start[1]))
    if len(stat) < 20 or stat[0] in (b"Z", b"X") or stat[19] != start[2]:
        return None
    return int(stat[2])


def _stat(pid: int) -> List[bytes]:
    """What the kernel tells of a process, from its state on; empty if it is gone."""
    return _read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()


def marked() -> Set[int]:
    """The process groups of all that carries this attempt's variables, daemons included.

    What was started with an emptied environment, or overwrites its own, is not found.
    """
    names = (RECORD_VARIABLE, ATTEMPT_VARIABLE)
    marks = {os.fsencode(f"{name}={os.environ[name]}") for name in names if name in os.environ}
    if len(marks) < len(names):
        return set()
    found = set()
    for name in os.listdir("/proc"):
        try:
            if not name.isdigit() or os.stat(f"/proc/{name}").st_uid != os.geteuid():
                continue
            with open(f"/proc/{name}/environ", "rb") as file:
                items = file.read().split(b"\0")
            if marks.issubset(items):
                found.add(os.getpgid(int(name)))
        except OSError:
            continue  # it has ended, or is not ours to look at
    return found


def signal_all(
    setting: Setting, command: Optional[int], number: int, spared: AbstractSet[int] = frozenset()
) -> bool:
    """Signals the run's process groups on this node (0 only asks); whether any is there.

    A launcher may have put its ranks into groups of their own, as torchrun does. Where no
    scheduler does it, daemons that left the command's session are found too. command: its group.
    spared: groups that are not signalled, besides this process's own.
    """
    wanted = groups(setting.spool) | ({command} if command else set())
    if not setting.scheduled:
        wanted |= marked()
    others = wanted - {os.getpgrp()} - spared
    there = {group for group in others if signal_group(group, number)}
    return bool(there) and _is_alive(there)


def _is_alive(groups: AbstractSet[int]) -> bool:
    """Whether one has more than the dead, whom a host may reap late, or a container never."""
    others = (int(name) for name in os.listdir("/proc") if name.isdecimal())
    return any(_is_of(pid, groups) for pid in groups) or any(_is_of(p, groups) for p in others)


def _is_of(pid: int, groups: AbstractSet[int]) -> bool:
    """Whether a process lives, in one of these groups."""
    stat = _stat(pid)
    return len(stat) > 2 and stat[0] not in (b"Z", b"X") and int(stat[2]) in groups


def _read(path: str, offset: int = 0) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _rank_end(line: str) -> Optional[Dict[str, Any]]:
    """The data in a line; None if it is torn. `date` of busybox knows no fractions of a second."""
    words = line.split()
    memory = words[4:] == [MEMORY]
    if len(words) != 4 + memory or not (words[0].isdigit() and words[1].isdigit()):
        return None
    seconds, _, fraction = words[2].partition(".")
    if not seconds.isdigit():
        return None
    time = float(f"{seconds}.{fraction}" if fraction.isdigit() else seconds)
    end = {"rank": int(words[0]), "status": int(words[1]), "host": words[3], "time": time}
    return {**end, MEMORY: True} if memory else end
