"""The states of a run and their order. Values only; standard library only (Python 3.8+).

The names are Azure ML's (azureml-core RunStatus). A run's state is the greatest state that any
fact of its newest attempt tells; `rank` is that order. Ends are greater than all others, so a
late heartbeat cannot bring a finished attempt back.
"""

from __future__ import annotations

import enum


class State(str, enum.Enum):
    """What a run is doing."""

    NOT_STARTED = "NotStarted"
    PREPARING = "Preparing"
    QUEUED = "Queued"
    STARTING = "Starting"
    RUNNING = "Running"
    NOT_RESPONDING = "NotResponding"
    FINALIZING = "Finalizing"
    CANCEL_REQUESTED = "CancelRequested"
    CANCELED = "Canceled"
    COMPLETED = "Completed"
    FAILED = "Failed"

    @property
    def rank(self) -> int:
        """Its place in the order; equal for the three ends."""
        return min(list(State).index(self), list(State).index(State.CANCELED))

    @property
    def is_end(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in ENDS

    def __str__(self) -> str:
        return self.value


ENDS = frozenset((State.CANCELED, State.COMPLETED, State.FAILED))


class Cause(str, enum.Enum):
    """Why an attempt ended: the verdict in one word."""

    COMPLETED = "completed"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    NODE_FAILURE = "node_failure"
    PREEMPTED = "preempted"
    REQUEUED = "requeued"
    LAUNCH_FAILED = "launch_failed"
    SUBMIT_FAILED = "submit_failed"
    CANCELED = "canceled"
    REPORTED = "reported"
    AGENT_LOST = "agent_lost"
    LOST = "lost"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


END_OF_CAUSE = {
    Cause.COMPLETED: State.COMPLETED,
    Cause.CANCELED: State.CANCELED,
}


def end_state(cause: Cause) -> State:
    """The end that a cause leads to; everything that is neither success nor cancel failed."""
    return END_OF_CAUSE.get(cause, State.FAILED)
