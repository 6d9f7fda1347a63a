"""Whether Slurm is about to take the job's nodes away. Standard library only (Python 3.8+).

With a grace time Slurm tells only the steps of a preempted job to stop; its batch script hears of
it when that time is over, and a job that has ended by itself until then is not requeued (22.05).
"""

from __future__ import annotations

import os
import re
from typing import Optional

PATIENCE = 20.0
"""Seconds for the answer."""

_TIMES = re.compile(r" EndTime=(?P<end>\d+) .* PreemptTime=\d+ ")


def end_of_grace(job_id: str) -> Optional[float]:
    """When the nodes are taken, Unix seconds; None where they are not, or nobody answers."""
    told = _TIMES.search(shown(job_id))
    return float(told["end"]) if told is not None else None


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
