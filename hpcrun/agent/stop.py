"""Telling the ranks of a node that they should stop. Standard library only (Python 3.8+).

The mark in the spool is what `should_stop()` looks for: a file on the node's own disk, so nobody
waits for a shared file system or its caches. A signal goes only to a rank that catches it, since
any other would die of it.
"""

from __future__ import annotations

import os
from signal import SIGVTALRM
from typing import Iterator, Optional, Set

from hpcrun.agent import ranks
from hpcrun.layout import STOP_MARK


class Stop:
    """Tells this node's ranks, those that start later too. signal: what they get beside the mark.

    spool: None if there is none; then nobody can be told.
    """

    def __init__(self, spool: Optional[str], signal: Optional[int]) -> None:
        self._spool = spool
        self._signal = signal
        self._marked = False
        self._signaled: Set[int] = set()

    def tell(self) -> None:
        """Does what is left to do. OSError if the mark cannot be made."""
        if self._spool is None:
            return
        if not self._marked:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            os.close(os.open(os.path.join(self._spool, STOP_MARK), flags, 0o600))
            self._marked = True
        if self._signal is not None:
            self._send(self._spool, self._signal)

    def _send(self, spool: str, number: int) -> None:
        for shim in ranks.pids(spool) - self._signaled:
            for pid in _catching(shim, number):
                self._signaled.add(shim)
                os.kill(pid, number)


def _catching(parent: int, number: int) -> Iterator[int]:
    """The children that catch a signal; of one that is a shell, those that it has started."""
    for pid in _children(parent):
        # Before it becomes the command it is a copy of its parent, with the parent's traps.
        if _words(pid) == _words(parent):
            continue
        is_shell = _program(pid) in SHELLS
        behind = list(_catching(pid, number)) if is_shell else []
        # With a trap on EXIT bash catches every signal, and dies of each that has no trap.
        if not behind and _catches(pid, number) and not (is_shell and _catches(pid, SIGVTALRM)):
            behind = [pid]
        yield from behind


SHELLS = ("ash", "bash", "busybox", "dash", "ksh", "mksh", "sh", "zsh")


def _program(pid: int) -> str:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""  # it has ended


def _children(parent: int) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = _text(f"/proc/{name}/stat").rpartition(") ")[2].split()
            if stat[1:2] == [str(parent)]:
                yield int(name)


def _words(pid: int) -> str:
    return _text(f"/proc/{pid}/cmdline")


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    for line in _text(f"/proc/{pid}/status").splitlines():
        name, _, mask = line.partition(":")
        if name == "SigCgt":
            return bool(int(mask, 16) >> (number - 1) & 1)
    return False


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # it has ended
