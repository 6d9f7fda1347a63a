"""Slurm's states, and what they mean to us. Pure.

What one of squeue, scontrol and sacct tells of a job is a Told; `word_of` makes it a JobWord.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from hpcrun.ports import JobWord
from hpcrun.scheduler.hostlist import expand
from hpcrun.state import Cause, State


class Exit(NamedTuple):
    """How a job or step ended, as `code:signal`."""

    code: int
    signal: int

    def __str__(self) -> str:
        return f"{self.code}:{self.signal}"

    @classmethod
    def parse(cls, text: str) -> Exit | None:
        """`3:0`; or the number that wait() gives, as squeue prints it in 22.05."""
        match = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip())
        if match is None:
            return None
        if match.group(2) is not None:
            return cls(int(match.group(1)), int(match.group(2)))
        status = int(text)
        signal = status & 0x7F
        return cls(0 if signal else status >> 8 & 0xFF, signal)


@dataclass(frozen=True)
class Told:
    """What one of Slurm's commands tells of a job. state: with all that stands there.

    nodes: a node list. start, end: Unix seconds; the start of a job that waits is an estimate,
    the end of one that lives is its limit.
    """

    state: str
    exit: Exit | None = None
    reason: str = ""
    restart: int | None = None
    nodes: str = ""
    start: float | None = None
    end: float | None = None

    @property
    def base(self) -> str:
        """The state alone: `CANCELLED by 1000` is `CANCELLED`."""
        return base_state(self.state)

    @property
    def is_end(self) -> bool:
        return self.base in _ENDS


class Step(NamedTuple):
    """What sacct tells of a step."""

    name: str
    state: str
    exit: Exit | None

    def __str__(self) -> str:
        return f"step {self.name} {self.state} {self.exit or ''}".rstrip()


LOG_FOLDER = 53
"""The signal in 0:53: slurmstepd could not open the job's log (22.05)."""

MEMORY = 125
"""The signal in 0:125: no signal, but Slurm's sign that the kernel killed for memory."""

# RUNNING says that the job started; whether the command runs, the agent tells.
_LIVING = {
    "PENDING": State.QUEUED,
    "REQUEUED": State.QUEUED,
    "REQUEUE_FED": State.QUEUED,
    "REQUEUE_HOLD": State.QUEUED,
    "RESV_DEL_HOLD": State.QUEUED,
    "SPECIAL_EXIT": State.QUEUED,
    "EXPEDITING": State.QUEUED,  # since 25.11
    "CONFIGURING": State.STARTING,
    "POWER_UP_NODE": State.STARTING,
    "RUNNING": State.STARTING,
    "RESIZING": State.STARTING,
    "SIGNALING": State.STARTING,
    "STOPPED": State.STARTING,
    "SUSPENDED": State.STARTING,
    "COMPLETING": State.FINALIZING,
    "STAGE_OUT": State.FINALIZING,
}

_ENDS = {
    "COMPLETED": Cause.COMPLETED,
    "FAILED": Cause.EXIT_CODE,
    "CANCELLED": Cause.CANCELED,
    "TIMEOUT": Cause.TIME_LIMIT,
    "DEADLINE": Cause.TIME_LIMIT,
    "OUT_OF_MEMORY": Cause.OUT_OF_MEMORY,
    "NODE_FAIL": Cause.NODE_FAILURE,
    "BOOT_FAIL": Cause.NODE_FAILURE,
    "PREEMPTED": Cause.PREEMPTED,
    "LAUNCH_FAILED": Cause.LAUNCH_FAILED,
    "RECONFIG_FAIL": Cause.LAUNCH_FAILED,
    "REVOKED": Cause.UNKNOWN,
}

_END_STATES = {Cause.COMPLETED: State.COMPLETED, Cause.CANCELED: State.CANCELED}


def base_state(text: str) -> str:
    """The first word of a state, without what some commands hang on it (`CANCELLED+`)."""
    match = re.match(r"[A-Za-z_]+", text.strip())
    return match.group().upper() if match else ""


def word_of(told: Told, steps: Sequence[Step] = (), by: str | None = None) -> JobWord:
    """Our word on a job. A state that nobody knows says no more than that there is a job."""
    if not told.is_end:
        return _living(told)
    fallen = [step for step in steps if base_state(step.state) == "OUT_OF_MEMORY"]
    cause = _cause(told)
    if fallen and cause in (Cause.COMPLETED, Cause.EXIT_CODE, Cause.SIGNAL):
        cause = Cause.OUT_OF_MEMORY
    exit_code, signal = _exit_of(told)
    if by is None and cause is Cause.CANCELED and told.reason.startswith("Dependency"):
        by = "Slurm: a job that it depends on failed"  # --kill-on-invalid-dep
    return JobWord(
        state=_END_STATES.get(_ENDS[told.base], State.FAILED),
        raw=_raw(told, fallen),
        cause=cause,
        restart=told.restart,
        exit_code=exit_code,
        signal=signal,
        nodes=expand(told.nodes),
        end=told.end,
        by=by,
    )


def word_of_past(told: Told, steps: Sequence[Step] = ()) -> JobWord:
    """Our word on a life of a job that another followed: whatever else, it was requeued."""
    word = word_of(told, steps)
    if word.state.is_end:
        return word
    return replace(
        word, state=State.FAILED, cause=Cause.REQUEUED, reason="", starts=None, end=told.end
    )


def _living(told: Told) -> JobWord:
    state = _LIVING.get(told.base, State.QUEUED)
    waits = state is State.QUEUED
    reason = told.reason if waits and told.reason not in _NO_REASON else ""
    return JobWord(
        state=state,
        raw=told.state,
        restart=told.restart,
        reason=told.base if told.base in _HALTED else reason,
        nodes=() if waits else expand(told.nodes),
        starts=told.start if waits else None,
    )


_HALTED = frozenset(("SUSPENDED", "STOPPED"))
"""They have nodes and do nothing: the state itself is why."""

_NO_REASON = frozenset(("None", "(null)", "N/A"))


def _cause(told: Told) -> Cause:
    cause = _ENDS[told.base]
    if cause is not Cause.EXIT_CODE:
        return cause
    if told.exit is None:
        return Cause.UNKNOWN
    if told.exit.signal == LOG_FOLDER or not expand(told.nodes):
        return Cause.LAUNCH_FAILED
    if told.exit.signal == MEMORY:
        return Cause.OUT_OF_MEMORY
    if told.exit.signal:
        return Cause.SIGNAL
    return Cause.EXIT_CODE if told.exit.code else Cause.UNKNOWN


def _exit_of(told: Told) -> tuple[int | None, int | None]:
    """(exit code, signal): one of them at most."""
    if told.exit is None or told.exit.signal in (LOG_FOLDER, MEMORY):
        return None, None
    if told.exit.signal:
        return None, told.exit.signal
    if told.exit.code or told.base == "COMPLETED":
        return told.exit.code, None
    return None, None


def _raw(told: Told, fallen: Sequence[Step]) -> str:
    words = told.state if told.exit is None else f"{told.state} {told.exit}"
    if told.reason and told.reason not in _NO_REASON:
        words += f", {told.reason}"
    if told.exit is not None and told.exit.signal == LOG_FOLDER:
        words += " (the folder of the job's log may be missing, or is not writable on the node)"
    return "; ".join((words, *map(str, fallen)))
