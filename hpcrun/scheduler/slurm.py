"""Slurm, through its commands, as an ordinary user on a login node."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hpcrun.errors import OutcomeUnknown, SchedulerError
from hpcrun.layout import RUN_ID
from hpcrun.ports import Command, JobId, JobWord, Submission
from hpcrun.scheduler import refusal, tables
from hpcrun.scheduler.command import NO_SLURM, Late, Missing, ask, failure, run
from hpcrun.scheduler.environment import inherited
from hpcrun.scheduler.inventory import configuration
from hpcrun.scheduler.lives import alone, joined
from hpcrun.scheduler.states import Told, word_of
from hpcrun.scheduler.tables import Life
from hpcrun.verdict import SILENT

SUBMIT_TIMEOUT = 120.0
"""Seconds for sbatch, which tries again by itself for as long."""

QUESTION_TIMEOUT = 60.0
"""Seconds for squeue, scontrol, scancel; without a controller they give up after 20 (22.05)."""

PATIENCE = 60
"""Seconds for which a small job may wait for its node."""

RECORDS_TIMEOUT = 30.0
"""Seconds for sacct, which hangs for 45 on a slurmdbd that does not answer (22.05)."""

SILENCE = 60.0
"""Seconds for which sacct, once it did not answer, is not asked about further jobs."""

SEARCH_DAYS = 30
"""How far back a job is searched in sacct when its name does not tell its age."""

_DAY = 86400

# sacct hears of an end up to a second after the controller (22.05).
_LAG = (0.2, 0.4, 0.8, 1.6)
_FRESH = 30.0

_JOB_ID = re.compile(r"(\d+)(;[^\s;]+)?\Z")
NO_SUCH_JOB = "Invalid job id"
ENDED_ALREADY = (NO_SUCH_JOB, "already completing or completed", "Job has already finished")
NO_ACCOUNTING = "accounting storage is disabled"
_NO_NAME = "allocation"


class Job(NamedTuple):
    """A job's number, and the words that name its cluster."""

    number: str
    where: tuple[str, ...]

    @classmethod
    def of(cls, job_id: JobId) -> Job:
        number, _, cluster = job_id.partition(";")
        return cls(number, ("-M", cluster) if cluster else ())


class Slurm:
    """Slurm. The constructor only stores.

    client_env: variables for its commands, which jobs find as well. environ: the submitter's
    environment (default: this process's own); little of it reaches a job. error_hints: what the
    site says that words of a refusal mean. accounting: whether sacct is asked.
    """

    def __init__(
        self,
        client_env: Mapping[str, str] = {},
        environ: Mapping[str, str] | None = None,
        error_hints: Mapping[str, str] = {},
        accounting: bool = True,
    ) -> None:
        self._client_env = client_env
        self._environ = environ
        self._error_hints = error_hints
        self._accounting = accounting
        self._silence: tuple[float, SchedulerError] | None = None

    def check(self) -> None:
        """SchedulerError if its commands are not here. Asks nobody."""
        path = self._submitting().get("PATH")
        missing = [n for n in ("sbatch", "squeue", "scancel") if not shutil.which(n, path=path)]
        if missing:
            raise SchedulerError(f"{', '.join(missing)}: not found on PATH", NO_SLURM)

    def submit(self, submission: Submission) -> JobId:
        """Hands the script over, once. OutcomeUnknown where nobody can tell whether it came."""
        words = ["sbatch", *submission.options, "--parsable", str(submission.script)]
        words += submission.arguments
        try:
            answer = run(words, self._submitting(), SUBMIT_TIMEOUT)
        except (Late, Missing) as error:
            raise refusal.interrupted(error) from error
        job_id = job_id_in(answer.output)
        if answer.status == 0 and job_id is not None:
            return job_id
        raise refusal.judge(answer, self._error_hints)

    def try_out(self, script: Path) -> str:
        """What sbatch says of a script that it need not take: when and where it might start.

        SchedulerError where it would refuse it. Nothing is submitted.
        """
        answer = ask(["sbatch", "--test-only", str(script)], self.asking(), QUESTION_TIMEOUT)
        if answer.status == 0:
            return answer.said
        error = refusal.judge(answer, self._error_hints)
        raise failure("sbatch", answer) if isinstance(error, OutcomeUnknown) else error

    def find(self, name: str) -> Sequence[JobId]:
        """The ids of this user's jobs of that name, newest first: in the queue, else in sacct."""
        rows = list(self._queue("--name", name))
        found = [(row.submitted, self._key(row)) for row in rows] or self._find_records(name)
        return [job_id for _, job_id in sorted(found, key=_by_age, reverse=True)]

    def jobs(self) -> Mapping[JobId, JobWord]:
        """All jobs of this user that the controller holds, in one call, the just ended too."""
        return {self._key(row): word_of(row.told) for row in self._queue()}

    def lives(self, job_id: JobId) -> Sequence[JobWord]:
        """All that is known of a job: the controller's word, joined with sacct's.

        Without accounting nobody knows more of earlier lives than that they were requeued, and
        the job is forgotten when the controller forgets it (MinJobAge). Where sacct does not
        answer, earlier lives are left out. What goes on in sacct alone does not respond: a
        controller that knows the job would say so.
        """
        job = Job.of(job_id)
        held: Told | None = None
        silence: SchedulerError | None = None
        try:
            held = self._controlled(job)
        except SchedulerError as error:
            silence = error
        if held is not None and not held.is_end and not held.restart:
            return [word_of(held)]
        try:
            lives = self._lives(job, held) if held is None else self._lives_up_to(job, held)
        except SchedulerError as error:
            if held is None:
                raise (silence or error) from error
            return [alone(held, SILENT)]
        if held is None and silence is not None and not (lives and lives[-1].told.is_end):
            raise silence
        return joined(held, lives)

    def run_on(
        self, node: str, place: Mapping[str, str], words: Sequence[str], minutes: int = 5
    ) -> str:
        """Runs a command on a node by srun, if the node has room within a minute."""
        size = ["--nodes=1", "--ntasks=1", "--cpus-per-task=1"]
        size += [f"--nodelist={node}", f"--time={minutes}"]
        options = [f"--{name}={value}" for name, value in place.items()]
        srun = ["srun", "--quiet", "--input=none", f"--immediate={PATIENCE}", *size, *options]
        answer = ask([*srun, *words], self.asking(), minutes * 60.0 + PATIENCE)
        if answer.status:
            raise failure("srun", answer)
        return answer.output

    def beside(
        self, job_id: JobId, node: str, words: Sequence[str], terminal: bool = False
    ) -> Command:
        """A step of srun, which shares what the job's other steps have. SchedulerError.

        Of the environment here it gets nothing.
        """
        job = Job.of(job_id)
        srun = ["srun", "--quiet", *job.where, f"--jobid={self._number(job)}", "--overlap"]
        srun += [f"--nodelist={node}", "--nodes=1", "--ntasks=1", "--cpus-per-task=1", "--mem=0"]
        srun += ["--mpi=none", "--export=NONE", "--chdir=/", f"--immediate={PATIENCE}"]
        srun += ["--quit-on-interrupt", *(["--pty"] if terminal else [])]
        return Command((*srun, *words), self.asking())

    def _number(self, job: Job) -> str:
        """What srun takes for a job: of an array's task, its own id. SchedulerError."""
        if "_" not in job.number:
            return job.number
        words = ["squeue", *job.where, "--noheader", "--jobs", job.number, "--Format", "JobID"]
        answer = ask(words, self.asking(), QUESTION_TIMEOUT)
        if answer.status or not answer.output.strip():
            raise failure("squeue", answer)
        return answer.output.split()[0]

    def cancel(self, job_id: JobId) -> None:
        """Asks for the job's end. One that has ended already, or is unknown, is no error."""
        job = Job.of(job_id)
        answer = ask(["scancel", *job.where, job.number], self.asking(), QUESTION_TIMEOUT)
        if answer.status and not any(words in answer.said for words in ENDED_ALREADY):
            raise failure("scancel", answer)

    def array_size(self) -> int:
        """MaxArraySize: one more than the greatest index."""
        return int(self._configured("MaxArraySize", "0"))

    def running_version(self) -> str:
        """That of the controller, which may be another than that of its commands."""
        return self._configured("SLURM_VERSION", "")

    def _configured(self, name: str, default: str) -> str:
        answer = ask(["scontrol", "show", "config"], self.asking(), QUESTION_TIMEOUT)
        if answer.status:
            raise failure("scontrol", answer)
        return configuration(answer.output).get(name, default)

    # -- the commands -------------------------------------------------------------------------

    def _queue(self, *which: str) -> Sequence[tables.Row]:
        words = ["squeue", "--me", "--noheader", "--states=all", "--array", *which]
        words += ["--Format", tables.QUEUE_FORMAT]
        answer = ask(words, self.asking(), QUESTION_TIMEOUT)
        if answer.status:
            raise failure("squeue", answer)
        return list(tables.queue_rows(answer.output))

    def _controlled(self, job: Job) -> Told | None:
        words = ["scontrol", *job.where, "--oneliner", "show", "job", job.number]
        answer = ask(words, self.asking(), QUESTION_TIMEOUT)
        if answer.status == 0:
            return tables.controlled(answer.output, job.number)
        if NO_SUCH_JOB in answer.said:
            return None
        raise failure("scontrol", answer)

    def _lives_up_to(self, job: Job, held: Told) -> Sequence[Life] | None:
        """The lives of a job that has just ended, once sacct has heard of its end; None where
        accounting is off.

        Who canceled it stands there alone; without it, the end would be written down too early.
        Of an array's tasks that never began, sacct knows them all together, as `A_[2-7]` (22.05).
        """
        fresh = held.end is not None and abs(time.time() - held.end) < _FRESH
        fresh = fresh and not ("_" in job.number and not held.nodes)
        for pause in _LAG if fresh else ():
            lives = self._lives(job, held)
            if lives is None or (lives and lives[-1].told.base == held.base):
                return lives
            time.sleep(pause)
        return self._lives(job, held)

    def _lives(self, job: Job, held: Told | None) -> Sequence[Life] | None:
        """The lives of a job in sacct, oldest first; None where accounting is off.

        held: what the controller says of it, if anything.
        """
        output = self._records(
            *job.where, "--jobs", job.number, "--duplicates", "--format", tables.RECORDS_FORMAT
        )
        if output is None:
            return None
        found = [life for life in tables.lives(output) if life.id == job.number]
        # Slurm's ids begin again some day: only what has the newest one's name is this job. An end
        # that slurmdbd hears of before the start has no name yet.
        names = [life.name for life in found if life.name != _NO_NAME]
        return [life for life in found if life.name in (_NO_NAME, *names[-1:])]

    def _find_records(self, name: str) -> list[tuple[float, JobId]]:
        match = RUN_ID.match(name)
        age = time.time() - int(match.group("seconds")) if match else SEARCH_DAYS * _DAY
        since = f"now-{max(int(age), 0) + _DAY}seconds"
        output = self._records(
            "--allocations", "--name", name, "--starttime", since, "--format", "JobID,Submit"
        )
        return [(when, JobId(number)) for number, when in tables.submit_times(output or "")]

    def _records(self, *which: str) -> str | None:
        """sacct's output; None where accounting is off."""
        environ = self.asking()
        if not self._accounting or not shutil.which("sacct", path=environ.get("PATH")):
            return None
        words = ["sacct", "--noheader", "--parsable2", "--delimiter", tables.SEPARATOR, *which]
        if self._silence is not None and time.monotonic() < self._silence[0]:
            raise self._silence[1]
        try:
            answer = ask(words, environ, RECORDS_TIMEOUT)
        except SchedulerError as error:
            self._silence = (time.monotonic() + SILENCE, error)
            raise
        if answer.status == 0:
            return answer.output
        if NO_ACCOUNTING in answer.said:
            return None
        raise failure("sacct", answer)

    # -----------------------------------------------------------------------------------------

    def _key(self, row: tables.Row) -> JobId:
        """As sbatch would have printed it: with the cluster where SLURM_CLUSTERS chooses one."""
        named = "SLURM_CLUSTERS" in self._client_env and row.cluster
        return JobId(f"{row.id};{row.cluster}" if named else row.id)

    def _submitting(self) -> dict[str, str]:
        """The environment of sbatch, which the job will find. Slurm's texts have no locale."""
        environ = os.environ if self._environ is None else self._environ
        return {**inherited(environ, ("SLURM_CONF",)), **self._client_env}

    def asking(self) -> dict[str, str]:
        """The environment of commands that change nothing: their texts have no locale, their times
        are Unix seconds."""
        return {**self._submitting(), "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}


def job_id_in(output: str) -> JobId | None:
    """The id that `sbatch --parsable` printed, `digits[;cluster]`, among a site's own lines."""
    for line in reversed(output.splitlines()):
        if _JOB_ID.match(line.strip()):
            return JobId(line.strip())
    return None


def _by_age(found: tuple[float, JobId]) -> tuple[float, int]:
    match = re.match(r"\d+", found[1])
    return found[0], int(match.group()) if match else 0
