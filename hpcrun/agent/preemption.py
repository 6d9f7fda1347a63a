"""Whether Slurm is about to take the job's nodes away. Standard library only (Python 3.8+).

With a grace time Slurm tells only the steps of a preempted job to stop; its batch script hears of
it when that time is over, and a job that has ended by itself until then is not requeued (22.05).
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Optional

PATIENCE = 20.0
"""Seconds for the answer."""

_STATE = re.compile(r" JobState=(?P<state>[A-Z_]+)")

_TIMES = re.compile(r" EndTime=(?P<end>\d+) .* PreemptTime=\d+ ")


class Standing(NamedTuple):
    """How a job stands with Slurm.

    state: Slurm's word, such as RUNNING; empty where nobody answers or knows it. end_of_grace: when
    a preempted job's nodes are taken, Unix seconds; None: they are not.
    """

    state: str
    end_of_grace: Optional[float]

    @property
    def ends(self) -> bool:
        """Whether Slurm has begun to end it."""
        return self.state not in ("", "RUNNING") or self.end_of_grace is not None


def standing(job_id: str) -> Standing:
    """How it stands now."""
    told = shown(job_id)
    state, times = _STATE.search(told), _TIMES.search(told)
    return Standing(
        state["state"] if state is not None else "",
        float(times["end"]) if times is not None else None,
    )


def shown(job_id: str) -> str:
    """What scontrol tells of a job from its user on, in one line, with times in Unix seconds.

    Empty where nobody answers or knows it. The job's name, before that, may hold anything.
    """
    import subprocess  # slow to import, and seldom needed

    try:
        done = subprocess.run(
            ("scontrol", "--oneliner", "show", "job", job_id),
            env={**os.environ, "SLURM_TIME_FORMAT": "%s"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").partition(" UserId=")[2]
