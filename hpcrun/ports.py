"""What the workflow asks of the outside world: one Protocol for each door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple, NewType, Protocol

from hpcrun.state import Cause, State

JobId = NewType("JobId", str)


@dataclass(frozen=True)
class JobWord:
    """What the scheduler says of a job.

    state: ours. raw: its own words, kept whole. restart: how often it was requeued, None if not
    told. reason: why it waits, in its own code (`Resources`, `QOSMaxJobsPerUserLimit`).
    starts: the estimated start, Unix seconds. end: when it ended, Unix seconds.
    by: who canceled it, where it tells.
    """

    state: State
    raw: str
    cause: Cause | None = None
    restart: int | None = None
    reason: str = ""
    exit_code: int | None = None
    signal: int | None = None
    nodes: tuple[str, ...] = ()
    starts: float | None = None
    end: float | None = None
    by: str | None = None


@dataclass(frozen=True)
class Submission:
    """What is handed to a scheduler: the stored script, the job's name, its folder.

    arguments: words for the script. options: the scheduler's own, over the script's directives.
    """

    script: PurePosixPath
    name: str
    folder: PurePosixPath
    log: PurePosixPath
    arguments: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Command(NamedTuple):
    """A command of the scheduler's, to be started: its words, and its whole environment."""

    words: tuple[str, ...]
    environ: Mapping[str, str]


class Scheduler(Protocol):
    """A scheduler. Every method may raise SchedulerError; a transient one may succeed later."""

    def check(self) -> None:
        """SchedulerError if it cannot be used from this machine at all. Asks nobody."""

    def submit(self, submission: Submission) -> JobId:
        """Hands the script over; gives the job's id. After OutcomeUnknown the job may exist."""

    def array_size(self) -> int:
        """How many jobs one array may have; 0: there are no arrays."""

    def find(self, name: str) -> Sequence[JobId]:
        """The ids of this user's jobs of that name, newest first, that the scheduler knows."""

    def jobs(self) -> Mapping[JobId, JobWord]:
        """All jobs of this user that the scheduler still holds, in one call."""

    def lives(self, job_id: JobId) -> Sequence[JobWord]:
        """The words on a job's lives, oldest first, as far as anybody remembers them.

        A requeue begins the next life; the newest may still go on.
        """

    def run_on(
        self, node: str, place: Mapping[str, str], words: Sequence[str], minutes: int = 5
    ) -> str:
        """Runs a command on a node in a small job of its own; gives what it prints.

        place: options of the job, such as partition and account. minutes: how long it may take.
        """

    def beside(
        self, job_id: JobId, node: str, words: Sequence[str], terminal: bool = False
    ) -> Command:
        """What runs a command beside a running job, on one of its nodes, and takes nothing of it.

        Standard input and output are the command's. terminal: whether they are a terminal, and
        the command is to have one too.
        """

    def cancel(self, job_id: JobId) -> None:
        """Asks for the job's end. A job that has ended already is no error."""
