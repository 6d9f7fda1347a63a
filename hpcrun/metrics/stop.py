"""Whether this process should stop: what its node's agent or Slurm says. Standard library (3.8+).

The agent's word is a mark in the node's spool. Slurm's is TERM, which with a grace time before
preemption reaches the ranks alone, and long before the KILL.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Dict, Optional

from hpcrun.layout import STOP_MARK
from hpcrun.metrics.context import Context


class Stop:
    """What this process was told. mark: the file that says so; None: there is no spool."""

    def __init__(self, mark: Optional[str]) -> None:
        self._mark = mark
        self._told = False

    def told(self) -> bool:
        """Whether it should stop; once yes, always yes."""
        if not self._told:
            _Term.listen()
            self._told = _Term.came or (self._mark is not None and os.path.exists(self._mark))
        return self._told


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
    def begin_anew(cls) -> None:
        """In a forked child: who ends it by TERM, as multiprocessing does, means it."""
        if signal.getsignal(signal.SIGTERM) == cls._note:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        cls.came = cls._listens = False


_stops: Dict[Optional[str], Stop] = {}


def stop_of(context: Context) -> Stop:
    """The one of this process for its run."""
    mark = os.path.join(context.spool, STOP_MARK) if context.spool else None
    return _stops.setdefault(mark, Stop(mark))


os.register_at_fork(after_in_child=_Term.begin_anew)
