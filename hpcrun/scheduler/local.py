"""Target `local`: this machine, without a scheduler. A job is a process that outlives hpcrun."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from hpcrun.errors import OutcomeUnknown, SchedulerError
from hpcrun.ports import Command, JobId, JobWord, Submission
from hpcrun.scheduler.environment import inherited
from hpcrun.scheduler.process import JOB_ID, JOB_NAME, ProcessName, own_jobs
from hpcrun.state import Cause, State

START_TIMEOUT = 60.0
"""Seconds in which a process must have been started."""

_STARTER = Path(__file__).with_name("starter.py")


class Local:
    """This machine. The constructor only stores.

    environ: the submitter's environment (default: this process's own); little of it reaches a job.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = environ

    def check(self) -> None:
        """SchedulerError if processes cannot be told apart here."""
        if not Path("/proc/self/stat").exists():
            raise SchedulerError("there is no /proc here", "target local needs Linux")

    def submit(self, submission: Submission) -> JobId:
        """Starts the script, by the words of its first line."""
        words = [*_interpreter(submission.script), str(submission.script), *submission.arguments]
        environ = os.environ if self._environ is None else self._environ
        env = inherited(environ, ("CUDA_VISIBLE_DEVICES",))
        told = {
            "words": words,
            "env": {**env, JOB_NAME: submission.name},
            "folder": str(submission.folder),
            "log": str(submission.log),
            "host": _host(),
            "variable": JOB_ID,
        }
        said = _start(told)
        verb, _, rest = said.rpartition("\n")[2].partition(" ")
        if verb == "failed":
            raise SchedulerError(f"the job cannot be started: {rest}")
        if verb != "started":
            raise OutcomeUnknown(
                f"whether the job was started is not known: {said or 'no answer'}", transient=True
            )
        return JobId(rest)

    def array_size(self) -> int:
        """0: there are no arrays."""
        return 0

    def find(self, name: str) -> Sequence[JobId]:
        """The running jobs of that name, newest first."""
        found = [process for process, job in own_jobs(_host()) if job == name]
        return [JobId(str(process)) for process in sorted(found, key=_age, reverse=True)]

    def jobs(self) -> Mapping[JobId, JobWord]:
        """The jobs of this user that run here."""
        return {JobId(str(process)): _alive(process) for process, _ in own_jobs(_host())}

    def lives(self, job_id: JobId) -> Sequence[JobWord]:
        """One: that the process runs, or is gone; how it ended, only its agent tells."""
        process = _here(job_id)
        if process.runs:
            return [_alive(process)]
        return [JobWord(State.FAILED, "the process is gone", Cause.LOST, nodes=(process.host,))]

    def run_on(
        self, node: str, place: Mapping[str, str], words: Sequence[str], minutes: int = 5
    ) -> str:
        """SchedulerError: nothing is run on other machines."""
        raise SchedulerError(f"this is {_host()}, not {node}", f"do it on {node}")

    def beside(
        self, job_id: JobId, node: str, words: Sequence[str], terminal: bool = False
    ) -> Command:
        """SchedulerError: a job here is a process like others."""
        raise SchedulerError("a job of target local has no node of its own")

    def cancel(self, job_id: JobId) -> None:
        """TERM to the process group; the agent passes it on, and kills what does not heed it."""
        process = _here(job_id)
        if not process.runs:
            return
        try:
            os.killpg(process.pid, signal.SIGTERM)
            os.killpg(process.pid, signal.SIGCONT)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise SchedulerError(f"process {process.pid} is another user's") from error


def _host() -> str:
    return os.uname().nodename


def _age(process: ProcessName) -> tuple[int, int]:
    return process.ticks, process.pid


def _alive(process: ProcessName) -> JobWord:
    return JobWord(State.STARTING, f"process {process.pid} runs", nodes=(process.host,))


def _here(job_id: JobId) -> ProcessName:
    """The process behind an id. SchedulerError if it is on another machine."""
    process = ProcessName.parse(job_id)
    if process is None:
        raise SchedulerError(f"{job_id} is no job of target local")
    if process.host != _host():
        raise SchedulerError(
            f"job {job_id} is on host {process.host}, and this is {_host()}",
            f"look from {process.host}",
            transient=True,
        )
    return process


def _interpreter(script: PurePosixPath) -> Sequence[str]:
    """The words of a script's first line, split as the kernel does: a program, one argument."""
    try:
        with Path(script).open("rb") as file:
            line = file.readline(4096)
    except OSError as error:
        raise SchedulerError(f"cannot read the script {script}: {error.strerror}") from error
    words = os.fsdecode(line[2:]).strip().split(maxsplit=1)
    if not line.startswith(b"#!") or not words:
        raise SchedulerError(f"the script {script} does not begin with #! and an interpreter")
    return words


def _start(told: Mapping[str, object]) -> str:
    """Runs the starter; what it said, or nothing if it was killed or is late."""
    import json
    import subprocess

    # -X utf8: names of files travel unchanged, whatever the locale.
    words = [sys.executable or "python3", "-I", "-S", "-B", "-X", "utf8", str(_STARTER)]
    try:
        done = subprocess.run(
            words,
            input=json.dumps(told),
            capture_output=True,
            timeout=START_TIMEOUT,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return ""
    except OSError as error:
        raise SchedulerError(f"the job cannot be started: {words[0]}: {error.strerror}") from error
    return (done.stdout or done.stderr).strip()
