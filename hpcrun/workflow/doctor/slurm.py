"""Slurm's commands, what asks it, and whether its controller answers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Generator

from hpcrun.errors import HpcrunError
from hpcrun.scheduler.slurm import Slurm
from hpcrun.workflow.finding import Finding, Grade
from hpcrun.workflow.session import Session


def slurm(session: Session, target: str | None) -> Generator[Finding, None, Slurm | None]:
    """Gives the Slurm behind a target, if it answers. Without a target there may be none."""
    grade: Grade = "warning" if target is None else "error"
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        message = f"{', '.join(missing)} not on PATH: only target local can be used here"
        cure = "log in to a login node of the cluster, or load its Slurm module"
        yield Finding(grade, "Slurm", message, cure)
        return None
    words = ["sbatch", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        message = f"sbatch cannot be used here: {said}"
        yield Finding(grade, "Slurm", message, "log in to a login node of the cluster")
        return None
    yield Finding("ok", "Slurm", done.stdout.strip())
    try:
        choice = session.choice(target or "generic-slurm")
        choice.scheduler.check()
    except HpcrunError as error:
        yield Finding("error", "adapter", str(error))
        return None
    cure = "install a pyslurm of this release, or set `commands`" if choice.is_less else ""
    said = f"{choice.name}: {choice.why}"
    yield Finding("warning" if choice.is_less else "ok", "adapter", said, cure)
    try:
        jobs = choice.scheduler.jobs()
    except HpcrunError as error:
        yield Finding("error", "controller", str(error), "wait, or ask your cluster's staff")
        return None
    yield Finding("ok", "controller", f"answers; it holds {len(jobs)} of your jobs")
    return choice.scheduler
