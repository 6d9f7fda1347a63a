"""Schedulers: Slurm through its commands, and this machine alone."""

from hpcrun.scheduler.local import Local
from hpcrun.scheduler.reasons import Words, reason_in_words
from hpcrun.scheduler.shared import shared_jobs
from hpcrun.scheduler.slurm import Slurm

__all__ = ["Local", "Slurm", "Words", "reason_in_words", "shared_jobs"]
