"""When a run is requeued. Values only; standard library only (Python 3.8+)."""

from __future__ import annotations

from typing import NamedTuple


class Policy(NamedTuple):
    """What the run's user wants.

    exit_code: by which the command asks for a requeue; 0: by none. at_time_limit: whether a
    command that stopped for the time limit goes on in the next attempt. max_attempts: of one
    submission, those that Slurm has requeued by itself among them.
    """

    exit_code: int = 0
    at_time_limit: bool = False
    max_attempts: int = 1
