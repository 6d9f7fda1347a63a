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
_AWAITED = _EVENTS | {signal.SIGALRM}


def listen() -> None:
    """From now on signals wait to be asked for, also those that the script had ignored."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    for number in _AWAITED:
        signal.signal(number, signal.SIG_DFL)


def wait(seconds: float) -> Optional[int]:
    """The next signal (SIGCHLD among them), or None after so many seconds without one.

    A timer ends the wait: what sigtimedwait tells in a process that was stopped (SIGSTOP, SIGCONT)
    until the time was over is no signal but garbage (CPython 3.8 to 3.13).
    """
    if seconds <= 0:
        event = signal.sigtimedwait(_EVENTS, 0)
        return None if event is None else event.si_signo
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
    number = signal.sigwaitinfo(_AWAITED).si_signo
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.sigtimedwait({signal.SIGALRM}, 0)  # one that came just now is not for later
    return None if number == signal.SIGALRM else number


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
