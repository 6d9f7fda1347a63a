"""What the tasks of this node wrote about themselves in the spool. Standard library only (3.8+).

`starts` has a line `rank pid ticks` of each, `exits` a line `rank status unixtime host`. ticks is
when the process began, as the kernel counts: with it a pid names one process for ever.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Set

from hpcrun.agent.process import signal_group

STARTS = "starts"
EXITS = "exits"


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
    lines = _read(os.path.join(spool, STARTS)).split(b"\n") if spool else []
    found = [_group(line.split()) for line in lines]
    return {group for group in found if group is not None}


def _group(start: List[bytes]) -> Optional[int]:
    """The group of the rank in a line of `starts`, if it still runs."""
    if len(start) != 3 or not start[1].isdigit():
        return None
    stat = _read(f"/proc/{int(start[1])}/stat").rpartition(b") ")[2].split()
    if len(stat) < 20 or stat[0] in (b"Z", b"X") or stat[19] != start[2]:
        return None
    return int(stat[2])


def signal_all(command: Optional[int], spool: Optional[str], number: int) -> bool:
    """Signals a command's group and those of this node's ranks (0 only asks); whether any is there.

    A launcher may have put its ranks into groups of their own, as torchrun does.
    """
    wanted = groups(spool) | ({command} if command else set())
    wanted.discard(os.getpgrp())
    there = [signal_group(group, number) for group in wanted]
    return any(there)


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
    if len(words) != 4 or not (words[0].isdigit() and words[1].isdigit()):
        return None
    seconds, _, fraction = words[2].partition(".")
    if not seconds.isdigit():
        return None
    time = float(f"{seconds}.{fraction}" if fraction.isdigit() else seconds)
    return {"rank": int(words[0]), "status": int(words[1]), "host": words[3], "time": time}
