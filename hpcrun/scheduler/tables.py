"""What squeue, scontrol and sacct are asked to print, and how it is read. Pure.

Columns have our own separator and no width, so nothing is cut; times are Unix seconds through
SLURM_TIME_FORMAT=%s. JSON is not asked for: its shape changes between releases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hpcrun.scheduler.states import Exit, Step, Told

SEPARATOR = "\x1f"

_QUEUE = (
    "JobArrayID",
    "Cluster",
    "State",
    "Reason",
    "RestartCnt",
    "NodeList",
    "StartTime",
    "EndTime",
    "exit_code",
    "SubmitTime",
)

QUEUE_FORMAT = ",".join(f"{name}:{SEPARATOR}" for name in _QUEUE)

_RECORDS = ("JobID", "State", "ExitCode", "Start", "End", "NodeList", "Reason", "JobName")

RECORDS_FORMAT = ",".join(_RECORDS)

_ID = re.compile(r"\d+(?:_(?:\d+|\[[^\]]*\]))?(?:\+\d+)?\Z")


class Row(NamedTuple):
    """A job in the queue. submitted: Unix seconds; a requeue counts as a submission."""

    id: str
    cluster: str
    told: Told
    submitted: float


class Life(NamedTuple):
    """One life of a job in sacct, with its steps. name: the job's."""

    id: str
    name: str
    told: Told
    steps: tuple[Step, ...] = ()


def queue_rows(output: str) -> Iterator[Row]:
    """The jobs in squeue's output. A line that is something else is left out."""
    for line in output.splitlines():
        cells = line.split(SEPARATOR)
        if len(cells) < len(_QUEUE) or not _ID.match(cells[0]):
            continue
        values = dict(zip(_QUEUE, cells, strict=False))
        told = Told(
            state=values["State"],
            exit=Exit.parse(values["exit_code"]),
            reason=values["Reason"],
            restart=number(values["RestartCnt"]),
            nodes=values["NodeList"],
            start=_seconds(values["StartTime"]),
            end=_seconds(values["EndTime"]),
        )
        yield Row(cells[0], values["Cluster"], told, _seconds(values["SubmitTime"]) or 0.0)


def lives(output: str) -> Iterator[Life]:
    """The lives of jobs in sacct's output; steps follow the life they belong to."""
    life: Life | None = None
    for line in output.splitlines():
        cells = line.split(SEPARATOR, len(_RECORDS) - 1)
        if len(cells) < len(_RECORDS):
            continue
        values = dict(zip(_RECORDS, cells, strict=True))
        job, dot, _ = values["JobID"].partition(".")
        exit = Exit.parse(values["ExitCode"])
        if dot:
            if life is not None and life.id == job:
                told_step = Step(values["JobID"], values["State"], exit)
                life = life._replace(steps=(*life.steps, told_step))
            continue
        if life is not None:
            yield life
        life = Life(
            job,
            values["JobName"],
            Told(
                state=values["State"],
                exit=exit,
                reason=values["Reason"],
                nodes=values["NodeList"],
                start=_seconds(values["Start"]),
                end=_seconds(values["End"]),
            ),
        )
    if life is not None:
        yield life


def controlled(output: str, job: str) -> Told | None:
    """A job in the output of `scontrol --oneliner show job`; an array's tasks are apart."""
    for line in output.splitlines():
        ids = _IDS.match(line)
        # The job's name stands before the owner and may hold anything, as may what comes late.
        owner = _OWNER.search(line)
        values = dict(reversed(_FIELD.findall(line, owner.end()))) if owner else {}
        if ids is None or job not in (ids[1], f"{ids[2]}_{ids[3]}") or "JobState" not in values:
            continue
        return Told(
            state=values["JobState"],
            exit=Exit.parse(values.get("ExitCode", "")),
            reason=_reason(values),
            restart=number(values.get("Restarts", "")),
            nodes=values.get("NodeList", ""),
            start=_seconds(values.get("StartTime", "")),
            end=_seconds(values.get("EndTime", "")),
        )
    return None


def _reason(values: Mapping[str, str]) -> str:
    """Why a job waits. One that Slurm cancels for its dependency keeps any other reason (22.05)."""
    failed = values["JobState"] == "CANCELLED" and "(failed)" in values.get("Dependency", "")
    return "DependencyNeverSatisfied" if failed else values.get("Reason", "")


_IDS = re.compile(r"JobId=(\d+)(?: ArrayJobId=(\d+) ArrayTaskId=(\S+))?")
_OWNER = re.compile(r" UserId=\S+\(\d+\)(?= )")
_FIELD = re.compile(
    r" (JobState|Reason|Dependency|Restarts|ExitCode|StartTime|EndTime|NodeList)=(\S*)"
)


def submit_times(output: str) -> Sequence[tuple[str, float]]:
    """(job id, when submitted) in sacct's lines `JobID<separator>Submit`."""
    pairs = (line.split(SEPARATOR) for line in output.splitlines())
    return [(p[0], _seconds(p[1]) or 0.0) for p in pairs if len(p) == 2 and _ID.match(p[0])]


def _seconds(text: str) -> float | None:
    """Unix seconds; None for `N/A`, `Unknown` and their like."""
    return float(text) if text.isdecimal() else None


def number(text: str) -> int | None:
    """A whole number; None for `N/A`, `UNLIMITED` and their like."""
    return int(text) if text.isdecimal() else None
