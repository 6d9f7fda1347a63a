"""Whether this process should stop: what its node's agent or Slurm says. Standard library (3.8+).

The agent's word is a mark in the node's spool. Slurm's is TERM, which with a grace time before
preemption reaches the ranks alone, and long before the KILL.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from typing import Dict, Optional

from hpcrun.layout import STOP_MARK
from hpcrun.metrics.context import Context
from hpcrun.metrics.world import any_of_all


class Stop:
    """What this process was told. mark: the file that says so; None: there is no spool."""

    def __init__(self, mark: Optional[str]) -> None:
        self._mark = mark
        self._calls = 0
        self._agreed = False

    def agreed(self, every: int) -> bool:
        """Whether all processes of the run should stop; once yes, always yes.

        A collective at each such call, where there is a world. ValueError.
        """
        if every < 1:
            raise ValueError(f"every must be at least 1, not {every}")
        _Term.listen()
        self._calls += 1
        if not self._agreed and self._calls % every == 0:
            self._agreed = any_of_all(self._told())
        return self._agreed

    def _told(self) -> bool:
        return _Term.came or (self._mark is not None and os.path.exists(self._mark))


class _Term:
    """TERM as a flag of this process, where nobody else has a handler for it."""

    came = False
    _listens = False

    @classmethod
    def listen(cls) -> None:
        """Does nothing in a thread that may not set handlers."""
        if cls._listens or threading.current_thread() is not threading.main_thread():
            return
        cls._listens = True
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, cls._note)

    @classmethod
    def _note(cls, number: int, frame: object) -> None:
        cls.came = True

    @classmethod
    def at_exit(cls) -> None:
        """Whoever ends already keeps the status it ends with: Python gives TERM its default back,
        and the second of two TERMs would count."""
        if signal.getsignal(signal.SIGTERM) == cls._note:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    # A forked child begins anew: who ends it by TERM, as multiprocessing does, means it. A TERM
    # that comes right after the fork waits until then; Python would drop it.

    @classmethod
    def before_fork(cls) -> None:
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))

    @classmethod
    def in_parent(cls) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)

    @classmethod
    def in_child(cls) -> None:
        if signal.getsignal(signal.SIGTERM) == cls._note:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        cls.came = cls._listens = False
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


_forking = threading.local()
_stops: Dict[Optional[str], Stop] = {}


def stop_of(context: Context) -> Stop:
    """The one of this process for its run."""
    mark = os.path.join(context.spool, STOP_MARK) if context.spool else None
    return _stops.setdefault(mark, Stop(mark))


atexit.register(_Term.at_exit)
os.register_at_fork(
    before=_Term.before_fork,
    after_in_parent=_Term.in_parent,
    after_in_child=_Term.in_child,
)
