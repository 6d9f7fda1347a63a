"""Whether locks of one node are respected on another. Standard library only (Python 3.8+).

Each lock is asked for by a process of its own, since some file systems let one wait for ever.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from typing import Callable, Dict

from hpcrun.agent.probe.talk import Talk, error_name, until

PATIENCE = 20.0
"""Seconds for an answer of the file system."""

GOT, REFUSED, LATE = "got", "refused", "late"
EXCLUDES, HERE_ONLY, NOBODY, STUCK = "excludes", "one host only", "nobody", "stuck"


def _flock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _fcntl(descriptor: int) -> None:
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


LOCKS: Dict[str, Callable[[int], None]] = {"flock": _flock, "fcntl": _fcntl}


class Holder:
    """A process that asks for a lock once and holds it, if it got it, until `release`.

    answer: got, refused, late, or the error.
    """

    def __init__(self, path: str, lock: Callable[[int], None]) -> None:
        reading, writing = os.pipe()
        self._keeping, held = os.pipe()
        self._process = os.fork()
        if not self._process:
            os.close(held)
            _hold(path, lock, writing, self._keeping)
        os.close(writing)
        os.close(self._keeping)
        self._release = held
        answers, _, _ = select.select([reading], [], [], PATIENCE)
        self.answer = os.read(reading, 1000).decode() if answers else LATE
        os.close(reading)

    def release(self) -> None:
        """Ends the process. One that hangs in the file system is left behind."""
        os.close(self._release)
        if self.answer == LATE:
            os.kill(self._process, signal.SIGKILL)
        until(lambda: os.waitpid(self._process, os.WNOHANG)[0], PATIENCE)


def _hold(path: str, lock: Callable[[int], None], answers: int, keeping: int) -> None:
    """The process's whole life: nothing of its parent's may run in it."""
    try:
        descriptor = os.open(path, os.O_RDWR)
        try:
            lock(descriptor)
            answer = GOT
        except (BlockingIOError, PermissionError):  # fcntl may say EACCES
            answer = REFUSED
        os.write(answers, answer.encode())
        os.read(keeping, 1)
    except OSError as error:
        os.write(answers, error_name(error).encode())
    finally:
        os._exit(0)


def lock(kind: str, talk: Talk, clock: object) -> str:
    """The first side's part; gives what the lock is worth: `excludes`, `one host only`, `nobody`,
    `stuck` (it is held after its end), `late`, or the error. OSError, Silence."""
    del clock
    path = os.path.join(talk.folder, f"lock-{kind}")
    with open(path, "x", encoding="utf-8"):
        pass
    holder = Holder(path, LOCKS[kind])
    try:
        talk.send("held", holder.answer)
        if holder.answer != GOT:
            return holder.answer
        here = _tried(path, kind)
        there = talk.hear("tried")
    finally:
        holder.release()
    talk.send("released")
    return worth(here, there, talk.hear("again"))


def try_lock(kind: str, talk: Talk, limit: float) -> None:
    """The second side's part. OSError, Silence, Passed."""
    path = os.path.join(talk.folder, f"lock-{kind}")
    if talk.hear("held") != GOT:
        return
    until(lambda: os.path.exists(path), limit)
    talk.send("tried", _tried(path, kind))
    talk.hear("released")
    last = time.monotonic() + PATIENCE
    answer = _tried(path, kind)
    while answer == REFUSED and time.monotonic() < last:
        time.sleep(0.1)
        answer = _tried(path, kind)
    talk.send("again", answer)


def worth(here: str, there: str, after: str) -> str:
    """What a lock is worth. here, there: what others were told on its own host and on the other
    one; after: on the other one, after its end."""
    if there == GOT:
        return HERE_ONLY if here == REFUSED else NOBODY
    if there != REFUSED:
        return there
    return EXCLUDES if after == GOT else STUCK


def _tried(path: str, kind: str) -> str:
    holder = Holder(path, LOCKS[kind])
    holder.release()
    return holder.answer
