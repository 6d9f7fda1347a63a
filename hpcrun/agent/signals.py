"""Signals as events that are waited for, without handlers. Standard library only (Python 3.8+)."""

from __future__ import annotations

import signal
from typing import Optional

HEARD = frozenset(
    (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGCONT,
    )
)
"""What the agent takes note of."""

STOPPING = frozenset((signal.SIGTERM, signal.SIGINT))
"""What asks for the end."""

WARNING = signal.SIGUSR1
"""By which Slurm tells that the time limit is near (`--signal=B:USR1@…`)."""

_EVENTS = HEARD | {signal.SIGCHLD}


def listen() -> None:
    """From now on signals wait to be asked for, also those that the script had ignored."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _EVENTS)
    for number in _EVENTS:
        signal.signal(number, signal.SIG_DFL)


def wait(seconds: float) -> Optional[int]:
    """The next signal (SIGCHLD among them), or None after so many seconds without one."""
    event = signal.sigtimedwait(_EVENTS, max(seconds, 0.0))
    return None if event is None else event.si_signo


def stop_is_pending() -> bool:
    """Whether somebody has asked for the end, and was not heard yet."""
    return not STOPPING.isdisjoint(signal.sigpending())


def restore() -> None:
    """Every signal as a new process expects it: no handler, none ignored, none blocked."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def ignore() -> None:
    """A process that nothing but a kill ends."""
    for number in HEARD - {signal.SIGCONT}:
        signal.signal(number, signal.SIG_IGN)
