"""Where everything of a run history lies. Pure; standard library only (Python 3.8+).

    <workspace>/workspace.json
    <workspace>/users/<user>/active/<run id>/            run.json, script.sh, journals
    <workspace>/users/<user>/runs/<yyyy-mm>/             sealed: <run id>.h5, later <run id>.<n>.h5
    <workspace>/users/<user>/index/                      generations: one row per sealed run
    <workspace>/users/<user>/files/<yyyy-mm>/<run id>/   outputs/ logs/ user_logs/, the job's folder
    <workspace>/users/<user>/snapshots/                  objects/<2>/<62>, <digest>.json
    <workspace>/users/<user>/experiments/<name>/         journals: tags, archived
    <workspace>/users/<user>/models/<name>/<version>/    model.json, the model's files
    <workspace>/users/<user>/sdk/<version>/              what travels to the nodes
    <workspace>/users/<user>/.import-<8 hex>/            an export that is being taken in
    <workspace>/users/<user>/mirrors/<site>.json         which runs of another machine are mirrored
    <workspace>/users/<user>/.mirror-<8 hex>/            records of theirs that are being laid
    <workspace>/users/<user>/private/                    all of these again, mode 0700: private runs

Names inside the job (HPCRUN_*) are here too, since agent, script and training process share them.
"""

from __future__ import annotations

import enum
import posixpath
import re
from typing import List, NamedTuple, Optional, Tuple

FORMATS = (1,)
"""Of workspaces and of run.json with its journals: those that are read; the last is written."""

FORMAT = FORMATS[-1]

USERS, PRIVATE = "users", "private"

LOCAL = "local"
"""The target that is the machine one submits on."""

INTERACTIVE = "interactive"
"""The target of a run without a job: its process tells what happens, and nobody else knows."""

RUN_ID = re.compile(r"(?P<experiment>.+)_(?P<seconds>\d{9,11})_(?P<hex>[0-9a-f]{8})\Z")

# Environment variables that every process of a run finds.
RUN_ID_VARIABLE = "HPCRUN_RUN_ID"
EXPERIMENT_VARIABLE = "HPCRUN_EXPERIMENT"
WORKSPACE_VARIABLE = "HPCRUN_WORKSPACE"
RECORD_VARIABLE = "HPCRUN_RECORD"
FILES_VARIABLE = "HPCRUN_FILES"
SPOOL_VARIABLE = "HPCRUN_SPOOL"
ATTEMPT_VARIABLE = "HPCRUN_ATTEMPT"
OUTPUT_VARIABLE = "HPCRUN_OUTPUT_DIRECTORY"
WORK_VARIABLE = "HPCRUN_WORKING_DIRECTORY"

COLLECTED = ("outputs", "logs")
"""The folders of the job's working folder that are brought to the run's files."""

NODES = ".nodes"
"""In these: `.nodes/<host>/` holds what a node wrote under a name that another node's file has."""

STAGED_VARIABLE = "HPCRUN_STAGED"
HOLD_VARIABLE = "HPCRUN_HOLD"
RESUME_VARIABLE = "HPCRUN_RESUME_FROM"
ANEW_VARIABLE = "HPCRUN_RESUME_ANEW"
RESTART_VARIABLE = "HPCRUN_RESTART_COUNT"
BEGUN_VARIABLE = "HPCRUN_BEGUN"
WARNED_VARIABLE = "HPCRUN_WARNED"

STOP_MARK = "stop"
"""The file in a node's spool that is there once the ranks should stop."""

JOURNAL_SUFFIX = ".jsonl"
METRICS_SUFFIX = ".metrics.jsonl"
ARTIFACTS_SUFFIX = ".artifacts.jsonl"


class JournalKind(enum.Enum):
    """What a journal holds: a part of a run's facts. The value ends the name of its file."""

    FACTS = JOURNAL_SUFFIX
    """What makes the run's record."""
    METRICS = METRICS_SUFFIX
    """What was logged, followed and measured."""
    ARTIFACTS = ARTIFACTS_SUFFIX
    """The bytes of images."""


SUFFIX_OF_KIND = {"metric": METRICS_SUFFIX, "artifact": ARTIFACTS_SUFFIX}
"""The journals of facts that are many, or long; all others stand in one with JOURNAL_SUFFIX."""


class Attempt(NamedTuple):
    """One life of a run: the number of the submission, and Slurm's restart count in it.

    The submission number is written before the scheduler is called, so it orders attempts
    without comparing clocks. SLURM_RESTART_COUNT is absent on a first run (22.05): that is 0.
    """

    submission: int
    restart: int = 0

    def __str__(self) -> str:
        return f"{self.submission}.{self.restart}"

    @classmethod
    def parse(cls, text: str) -> "Attempt":
        """The attempt written as `submission.restart`."""
        submission, _, restart = text.partition(".")
        return cls(int(submission), int(restart or 0))


def month_of(run_id: str) -> str:
    """The UTC month in a run id, as yyyy-mm: where its files lie, whoever asks and when."""
    match = RUN_ID.match(run_id)
    if match is None:
        raise ValueError(f"not a run id: {run_id!r}")
    return month_of_seconds(int(match.group("seconds")))


def month_of_seconds(seconds: int) -> str:
    """The UTC month of a Unix time, by the calendar's arithmetic (no clock, no time zone)."""
    days = seconds // 86400 + 719468
    era = days // 146097
    day_of_era = days - era * 146097
    year = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return f"{year + era * 400 + (1 if month <= 2 else 0):04d}-{month:02d}"


def experiment_of(run_id: str) -> str:
    """The experiment in a run id."""
    match = RUN_ID.match(run_id)
    if match is None:
        raise ValueError(f"not a run id: {run_id!r}")
    return match.group("experiment")


MOST_TASKS = 100_000
"""Of one run."""


def task_id(run_id: str, index: int) -> str:
    """The id of one of the independent tasks of a run: its hex digits come next."""
    before, _, number = run_id.rpartition("_")
    return "%s_%08x" % (before, (int(number, 16) + 1 + index) % (1 << 32))


def task_ids(run_id: str, count: int) -> List[str]:
    """The ids of all of them."""
    return [task_id(run_id, index) for index in range(count)]


class UserPaths(NamedTuple):
    """The folders of one user in a workspace, as text: they may be on another machine."""

    root: str

    @classmethod
    def of(cls, workspace: str, user: str) -> "UserPaths":
        return cls(posixpath.join(workspace, USERS, user))

    @property
    def private(self) -> "UserPaths":
        """The same folders once more, for what nobody else may see."""
        return UserPaths(posixpath.join(self.root, PRIVATE))

    @property
    def is_private(self) -> bool:
        """Whether these are the folders for what nobody else may see."""
        above, name = posixpath.split(self.root)
        return name == PRIVATE and posixpath.basename(above) != USERS

    @property
    def user(self) -> str:
        """Whose folders they are."""
        return posixpath.basename(posixpath.dirname(self.root) if self.is_private else self.root)

    @property
    def active(self) -> str:
        return posixpath.join(self.root, "active")

    @property
    def files(self) -> str:
        return posixpath.join(self.root, "files")

    @property
    def runs(self) -> str:
        return posixpath.join(self.root, "runs")

    @property
    def indexes(self) -> str:
        return posixpath.join(self.root, "index")

    @property
    def snapshots(self) -> str:
        return posixpath.join(self.root, "snapshots")

    @property
    def objects(self) -> str:
        return posixpath.join(self.root, "snapshots", "objects")

    @property
    def experiments(self) -> str:
        return posixpath.join(self.root, "experiments")

    @property
    def models(self) -> str:
        return posixpath.join(self.root, "models")

    @property
    def environments(self) -> str:
        return posixpath.join(self.root, "environments")

    @property
    def mirrors(self) -> str:
        return posixpath.join(self.root, "mirrors")

    @property
    def sdk(self) -> str:
        return posixpath.join(self.root, "sdk")

    def manifest(self, digest: str) -> str:
        return posixpath.join(self.snapshots, digest + ".json")

    def run(self, run_id: str) -> "RunPaths":
        return RunPaths(
            posixpath.join(self.active, run_id),
            posixpath.join(self.files, month_of(run_id), run_id),
        )


class RunPaths(NamedTuple):
    """The two folders of one run: its record, and its files (where the job runs)."""

    record: str
    files: str

    @property
    def run_id(self) -> str:
        return posixpath.basename(self.record)

    @property
    def owner(self) -> UserPaths:
        """The folders of the run's user."""
        return UserPaths(posixpath.dirname(posixpath.dirname(self.record)))

    @property
    def sealed(self) -> str:
        """The folder where its sealed file lies."""
        return posixpath.join(self.owner.runs, month_of(self.run_id))

    @property
    def request(self) -> str:
        """run.json: what was asked and what was resolved."""
        return posixpath.join(self.record, "run.json")

    @property
    def script(self) -> str:
        return posixpath.join(self.record, "script.sh")

    @property
    def outputs(self) -> str:
        return posixpath.join(self.files, "outputs")

    @property
    def logs(self) -> str:
        return posixpath.join(self.files, "logs")

    @property
    def user_logs(self) -> str:
        """Standard output and error, as hpcrun and Slurm write them; not the script's ./logs."""
        return posixpath.join(self.files, "user_logs")

    def batch_log(self, submission: int) -> str:
        """Slurm's own file, opened to append, one per submission."""
        return posixpath.join(self.user_logs, f"batch-{submission}.log")

    def attempt_logs(self, attempt: Attempt) -> str:
        return posixpath.join(self.user_logs, str(attempt))

    def rank_log(self, attempt: Attempt, rank: int) -> str:
        return posixpath.join(self.attempt_logs(attempt), f"rank-{rank}.log")

    def journal(self, writer: str) -> str:
        return posixpath.join(self.record, writer + JOURNAL_SUFFIX)

    def claim(self, submission: int) -> str:
        """The file whose existence says that a job of this submission runs; it holds the job id."""
        return posixpath.join(self.record, f"claim-{submission}")


def sealed_name(run_id: str, number: int) -> str:
    """The name of a run's sealed file: the first has no number, the next seals have 1, 2, …"""
    return f"{run_id}.{number}.h5" if number else f"{run_id}.h5"


def sealed_of(name: str) -> Optional[Tuple[str, int]]:
    """(run id, number) of a sealed file's name; None for other names."""
    match = _SEALED.match(name)
    if match is None or RUN_ID.match(match.group("run_id")) is None:
        return None
    return match.group("run_id"), int(match.group("number") or 0)


_SEALED = re.compile(r"(?P<run_id>[^.].*?_[0-9a-f]{8})(?:\.(?P<number>[1-9]\d*))?\.h5\Z")


def journal_kind(name: str) -> Optional[Tuple[str, JournalKind]]:
    """(writer, what it holds) of a journal's file name; None for other files."""
    if name.startswith("."):
        return None
    for kind in (
        JournalKind.METRICS,
        JournalKind.ARTIFACTS,
        JournalKind.FACTS,
    ):  # the last is how the others end too
        if name.endswith(kind.value):
            return name[: -len(kind.value)], kind
    return None
