"""Slurm, through libslurm: what its library tells and does as surely as its commands.

Everything else stays with the commands: submissions and what finds them again, jobs on nodes, array
tasks, other clusters, ends whose exit code counts, lives before the newest.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcrun.errors import SchedulerError
from hpcrun.ports import JobId, JobWord
from hpcrun.scheduler import slurm
from hpcrun.scheduler.command import Answer, ask, failure
from hpcrun.scheduler.environment import inherited
from hpcrun.scheduler.slurm import NO_SUCH_JOB, Job, Slurm
from hpcrun.scheduler.states import Exit, Step, Told, word_of
from hpcrun.scheduler.tables import Life

LOADING_TIMEOUT = 10.0
"""Seconds for loading it; without a configuration libslurm looks for one by DNS (22.05)."""

NOT_INSTALLED = "pyslurm is not installed"

_CALL = Path(__file__).with_name("libslurm_call.py")


class LibSlurm(Slurm):
    """Slurm through pyslurm, where that is as good as the commands. The constructor only stores."""

    def check(self) -> None:
        """SchedulerError if the commands or pyslurm are not here. Asks nobody."""
        super().check()
        if importlib.util.find_spec("pyslurm") is None:
            raise SchedulerError(NOT_INSTALLED, "install hpcrun-slurm[pyslurm]")

    def version(self) -> str:
        """pyslurm's, once it has been loaded. SchedulerError if it cannot be."""
        return str(self._call("version", timeout=LOADING_TIMEOUT))

    def jobs(self) -> Mapping[JobId, JobWord]:
        """All jobs of this user that the controller holds, in one call, the just ended too."""
        if "SLURM_CLUSTERS" in self._client_env:
            return super().jobs()
        return {JobId(row["id"]): word_of(_told(row)) for row in self._call("jobs")}

    def cancel(self, job_id: JobId) -> None:
        """Asks for the job's end. What libslurm refuses is left to scancel, which says why."""
        try:
            if not job_id.isdecimal() or not self._call("cancel", job_id):
                super().cancel(job_id)
        except SchedulerError:
            super().cancel(job_id)

    def _controlled(self, job: Job) -> Told | None:
        if job.where or not job.number.isdecimal():
            return super()._controlled(job)
        try:
            row = self._call("job", job.number)
        except SchedulerError as error:
            if NO_SUCH_JOB in error.message:
                return None
            raise
        return super()._controlled(job) if row is None or _is_inexact(row) else _told(row)

    def _lives(self, job: Job, held: Told | None) -> Sequence[Life] | None:
        """The life of a job that has had but one: pyslurm gives no more, sacct tells of others."""
        if held is None or held.restart or job.where or not job.number.isdecimal():
            return super()._lives(job, held)
        try:
            rows = self._call("records", job.number, timeout=slurm.RECORDS_TIMEOUT)
        except SchedulerError as error:
            if error.transient:
                raise
            return super()._lives(job, held)  # which knows accounting that is off
        return [Life(job.number, row["name"], _told(row), _steps(row)) for row in rows]

    def _call(self, *words: str, timeout: float = slurm.QUESTION_TIMEOUT) -> Any:
        """What a call of libslurm answers. SchedulerError in Slurm's own words."""
        python = [sys.executable, "-P", str(_CALL)]
        answer = ask([*python, *words], self._calling(), timeout, name="libslurm")
        if answer.status:
            raise failure("libslurm", _last_words(answer))
        try:
            return json.loads(answer.output)
        except ValueError:
            raise failure("libslurm", answer._replace(error="no answer")) from None

    def _calling(self) -> dict[str, str]:
        """The environment of the commands, and what this Python finds its modules with."""
        environ = os.environ if self._environ is None else self._environ
        found = inherited(environ, ("PYTHONPATH", "LD_LIBRARY_PATH"))
        return {**found, **self.asking(), "SLURM_BITSTR_LEN": "0"}  # arrays' tasks, uncut


def _told(row: Mapping[str, Any]) -> Told:
    return Told(
        state=row["state"],
        exit=None if _is_inexact(row) else Exit.parse(row["exit"]),
        reason=row["reason"],
        restart=row.get("restart"),
        nodes=row["nodes"],
        start=row["start"],
        end=row["end"],
    )


def _is_inexact(row: Mapping[str, Any]) -> bool:
    """Whether a job has ended by an exit code: pyslurm takes 128 off it from there on (22.5)."""
    exit = Exit.parse(row["exit"])
    return Told(row["state"]).is_end and (
        exit is None or (exit.signal == 0 and Told(row["state"]).base != "COMPLETED")
    )


def _steps(row: Mapping[str, Any]) -> tuple[Step, ...]:
    return tuple(
        Step(step["name"], step["state"], Exit.parse(step["exit"])) for step in row["steps"]
    )


def _last_words(answer: Answer) -> Answer:
    """The last line of what libslurm logged in its program's name: others tell of each try."""
    lines = answer.error.strip().splitlines()
    return answer._replace(error=re.sub(r"^python[\d.]*: ", "", lines[-1]) if lines else "")
