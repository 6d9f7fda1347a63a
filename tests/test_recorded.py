"""What Slurm said of jobs is read as it was meant, release by release.

tests/record_outputs.py recorded it. The cases of each command are those in tests/recorded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hpcrun.errors import OutcomeUnknown, SchedulerError
from hpcrun.ports import JobWord
from hpcrun.scheduler import slurm, tables
from hpcrun.scheduler.command import Answer, failure
from hpcrun.scheduler.hostlist import expand
from hpcrun.scheduler.inventory import configuration, mpi_types, nodes_in, partitions_in
from hpcrun.scheduler.lives import joined
from hpcrun.scheduler.reasons import reason_in_words
from hpcrun.scheduler.refusal import judge
from hpcrun.scheduler.slurm import job_id_in
from hpcrun.scheduler.states import word_of
from hpcrun.state import Cause, State
from tests.record_outputs import NODE_LISTS, REFUSED, SCRIPTS

RECORDED = Path(__file__).with_name("recorded")
RELEASES = ("22.05", "24.11", "26.05")

ENDS: Mapping[str, tuple[State, Cause, int | None, int | None, str | None]] = {
    "limit": (State.FAILED, Cause.TIME_LIMIT, None, 15, None),
    "preempted": (State.FAILED, Cause.PREEMPTED, None, 15, None),
    "node-fails": (State.FAILED, Cause.NODE_FAILURE, None, None, None),
    "canceled": (State.CANCELED, Cause.CANCELED, None, 15, "alice"),
    "canceled-by-root": (State.CANCELED, Cause.CANCELED, None, 15, "root"),
    "held-canceled": (State.CANCELED, Cause.CANCELED, None, None, "alice"),
    "completed": (State.COMPLETED, Cause.COMPLETED, 0, None, None),
    "pushes": (State.COMPLETED, Cause.COMPLETED, 0, None, None),
    "exit-code": (State.FAILED, Cause.EXIT_CODE, 7, None, None),
    "high-exit-code": (State.FAILED, Cause.EXIT_CODE, 200, None, None),
    "signal": (State.FAILED, Cause.SIGNAL, None, 9, None),
    "memory": (State.FAILED, Cause.OUT_OF_MEMORY, None, None, None),
    "step-memory": (State.COMPLETED, Cause.OUT_OF_MEMORY, 0, None, None),
    "no-log-folder": (State.FAILED, Cause.LAUNCH_FAILED, None, None, None),
    "hostile-name": (State.FAILED, Cause.EXIT_CODE, 3, None, None),
    "array-0": (State.COMPLETED, Cause.COMPLETED, 0, None, None),
    "array-1": (State.FAILED, Cause.EXIT_CODE, 1, None, None),
    "array-3": (State.FAILED, Cause.EXIT_CODE, 3, None, None),
}
"""(state, cause, exit code, signal, who canceled) of jobs that have ended, by case."""

WAIT = {
    "held": "JobHeldUser",
    "held-array-3": "JobHeldUser",
    "het": "JobHeldUser",
    "begins-later": "BeginTime",
    "asks-too-much-time": "PartitionTimeLimit",
    "waits-for-license": "Licenses",
    "waits-for-job": "Dependency",
    "waits-for-ever": "DependencyNeverSatisfied",
}
"""Why jobs wait, by case."""


@cache
def recorded(command: str, release: str) -> Any:
    """All that a release's command said."""
    return json.loads((RECORDED / command / f"{release}.json").read_text())


def case(command: str, release: str, name: str) -> Answer:
    """What a release's command said in a case."""
    found = recorded(command, release)["cases"][name]
    return Answer(found["status"], found["output"], found["error"])


def words(command: str, release: str, name: str) -> list[str]:
    found: list[str] = recorded(command, release)["cases"][name]["words"]
    return found


def exit_of(release: str, name: str) -> tuple[int | None, int | None]:
    """(exit code, signal) in a case. A node that fails counts for a signal, but in 22.05."""
    return (None, 1) if name == "node-fails" and release != "22.05" else ENDS[name][2:4]


def number(release: str, name: str) -> str:
    """A job's id by its case: `array-3` is a task of `array`, `het` the first part of two."""
    jobs = recorded("squeue", release)["jobs"]
    if name == "het":
        return f"{jobs['het']}+0"
    array, _, task = name.rpartition("-")
    return f"{jobs[array]}_{task}" if "array" in array else str(jobs[name])


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    """Each release that hpcrun supports and Debian has."""
    name: str = request.param
    return name


# -- squeue -------------------------------------------------------------------------------------


def queue(release: str) -> Mapping[str, JobWord]:
    rows = tables.queue_rows(case("squeue", release, "all").output)
    return {row.id: word_of(row.told) for row in rows}


def test_the_queue_is_asked_as_it_was_recorded(release: str) -> None:
    assert tables.QUEUE_FORMAT in words("squeue", release, "all")
    lines = case("squeue", release, "all").output.splitlines()
    assert len(queue(release)) == len(lines) > 30


@pytest.mark.parametrize("name", ENDS)
def test_ends_in_the_queue(release: str, name: str) -> None:
    word = queue(release)[number(release, name)]
    state, cause = ENDS[name][:2]
    if name == "step-memory":
        cause = Cause.COMPLETED  # only sacct tells of steps
    assert (word.state, word.cause) == (state, cause)
    assert (word.exit_code, word.signal) == exit_of(release, name)
    assert word.end is not None
    assert word.restart == 0
    assert (len(word.nodes) == 1) is (name != "held-canceled")


@pytest.mark.parametrize("name", WAIT)
def test_jobs_that_wait_say_why(release: str, name: str) -> None:
    word = queue(release)[number(release, name)]
    assert (word.state, word.reason, word.nodes) == (State.QUEUED, WAIT[name], ())
    assert reason_in_words(word.reason).sentence != word.reason
    assert (word.starts is not None) is (name == "begins-later")


def test_jobs_that_live_in_the_queue(release: str) -> None:
    jobs = queue(release)
    running = jobs[number(release, "running")]
    assert (running.state, running.raw) == (State.STARTING, "RUNNING")
    assert running.nodes == ("n1", "n2")
    again = jobs[number(release, "requeued")]
    assert (again.state, again.restart, again.reason) == (State.QUEUED, 1, "BeginTime")


def test_a_job_is_found_by_its_name(release: str) -> None:
    (row,) = tables.queue_rows(case("squeue", release, "named").output)
    assert row.id == number(release, "completed")
    ((found, submitted),) = tables.submit_times(case("sacct", release, "named-in-records").output)
    assert (found, submitted) == (row.id, row.submitted)


# -- scontrol and sacct -------------------------------------------------------------------------


def lives(release: str, name: str, known: bool = True) -> list[JobWord]:
    """The words on a job's lives. known: whether the controller still holds the job."""
    job = number(release, name).partition("+")[0]
    held = tables.controlled(case("scontrol", release, name).output, job) if known else None
    output = case("sacct", release, name).output
    return list(joined(held, [life for life in tables.lives(output) if life.id == job]))


@pytest.mark.parametrize("known", [True, False], ids=["known", "forgotten"])
@pytest.mark.parametrize("name", ENDS)
def test_ends_are_explained(release: str, name: str, known: bool) -> None:
    (word,) = lives(release, name, known)
    state, cause, code, _, by = ENDS[name]
    assert (word.state, word.cause, word.restart) == (state, cause, 0)
    assert word.end is not None
    assert (word.by is not None) is (by is not None)
    if by is not None:
        uid = recorded("sacct", release)["user"] if by == "alice" else 0
        assert f"CANCELLED by {uid} " in word.raw
    if known:
        assert (word.exit_code, word.signal) == exit_of(release, name)
    elif code is not None:
        # sacct took 128 off an exit code from there on, still in 24.11.
        assert word.exit_code == (code if release == "26.05" else code % 128)


def test_the_controllers_answers_are_asked_as_recorded(release: str) -> None:
    assert words("scontrol", release, "held")[1:-1] == ["--oneliner", "show", "job"]
    assert tables.RECORDS_FORMAT in words("sacct", release, "held")


@pytest.mark.parametrize("name", [name for name in WAIT if "array" not in name and name != "het"])
def test_the_controller_says_why_jobs_wait(release: str, name: str) -> None:
    told = tables.controlled(case("scontrol", release, name).output, number(release, name))
    assert told is not None
    assert (told.base, told.reason, told.restart) == ("PENDING", WAIT[name], 0)


def test_a_running_job(release: str) -> None:
    told = tables.controlled(
        case("scontrol", release, "running").output, number(release, "running")
    )
    assert told is not None
    assert (told.state, told.nodes, told.restart) == ("RUNNING", "n[1-2]", 0)
    (word,) = lives(release, "running", known=False)
    assert word.state is State.NOT_RESPONDING


@pytest.mark.parametrize("known", [True, False], ids=["known", "forgotten"])
def test_a_requeued_job_has_two_lives(release: str, known: bool) -> None:
    told = [(word.restart, word.cause) for word in lives(release, "requeued", known)]
    assert told == [(0, Cause.REQUEUED), (1, Cause.CANCELED)]


def test_a_dependency_that_failed_canceled_the_job(release: str) -> None:
    (word,) = lives(release, "dependency-fails")
    assert (word.state, word.by) == (
        State.CANCELED,
        "Slurm: a job that it depends on failed",
    )


def test_a_job_that_nobody_knows(release: str) -> None:
    assert slurm.NO_SUCH_JOB in case("scontrol", release, "unknown").said
    assert list(tables.lives(case("sacct", release, "unknown").output)) == []


@pytest.mark.parametrize("text", NODE_LISTS)
def test_node_lists(release: str, text: str) -> None:
    said = case("scontrol", release, f"node list {text}").output.split()
    if not said:  # something after the last bracket is known since 23.11
        assert release == "22.05" and not text.endswith("]")
        return
    assert list(expand(text)) == said


# -- what a cluster is --------------------------------------------------------------------------


def test_the_configuration(release: str) -> None:
    config = configuration(case("scontrol", release, "show config").output)
    assert config["ClusterName"] == "hpcrun"
    assert config["SLURM_VERSION"] in recorded("scontrol", release)["release"]
    assert "MEMORY" in config["SelectTypeParameters"].upper()


def test_partitions(release: str) -> None:
    found = partitions_in(case("scontrol", release, "--oneliner show partition").output)
    partitions = {partition.name: partition for partition in found}
    assert set(partitions) == {"main", "low", "high", "short"}
    assert [name for name in partitions if partitions[name].is_default] == ["main"]
    assert [name for name in partitions if partitions[name].is_preempted] == ["low"]
    short = partitions["short"]
    assert (short.time_default, short.time_max) == ("00:01:00", "00:02:00")
    assert (partitions["high"].tier, partitions["main"].tier) == (100, 1)
    assert all(p.is_open and not p.is_exclusive and p.nodes_max is None for p in found)


def test_nodes(release: str) -> None:
    nodes = nodes_in(case("scontrol", release, "--oneliner show node").output)
    assert [node.name for node in nodes] == ["n1", "n2", "n3", "n4"]
    for node in nodes:
        assert (node.cpus, node.memory, node.gpus, node.gpu) == (8, 16000, 4, "a100")
        assert set(node.partitions) == {"main", "low", "high", "short"}


PMIX = {"22.05": "pmix_v4", "24.11": "pmix_v5"}
"""Debian gives 26.05 its PMIx in a package of its own."""


def test_what_mpi_srun_knows(release: str) -> None:
    said = case("srun", release, "--mpi=list")
    types = mpi_types(said.output or said.error)
    assert {"none", "pmi2"} <= set(types)
    if release in PMIX:
        assert {"pmix", PMIX[release]} <= set(types)
    assert all(re.fullmatch(r"\w+", kind) for kind in types)


def test_accounts(release: str) -> None:
    answers = recorded("sacctmgr", release)["cases"].values()
    assert [answer["output"].split() for answer in answers] == [["lab"], ["lab"]]


# -- sbatch -------------------------------------------------------------------------------------


def test_the_id_of_a_job_that_was_taken(release: str) -> None:
    taken = job_id_in(case("sbatch", release, "taken").output)
    assert taken is not None and taken.isdecimal()
    named = job_id_in(case("sbatch", release, "taken-by-a-named-cluster").output)
    assert named is not None and named.endswith(";hpcrun")


@pytest.mark.parametrize("name", [*REFUSED, *SCRIPTS])
def test_a_refusal_is_known_for_one(release: str, name: str) -> None:
    error = judge(case("sbatch", release, name))
    assert type(error) is SchedulerError, error
    assert not error.transient


# -- troubles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["squeue", "scontrol", "scancel", "sbatch"])
def test_a_controller_that_is_away_may_come_back(release: str, command: str) -> None:
    answer = case(command, release, "controller-away")
    assert answer.status
    error = judge(answer) if command == "sbatch" else failure(command, answer)
    assert not isinstance(error, OutcomeUnknown)
    assert error.transient, error


def test_accounting_that_is_off_is_told_from_one_that_is_away(release: str) -> None:
    off, away = (case("sacct", release, name) for name in ("no-accounting", "records-away"))
    assert slurm.NO_ACCOUNTING in off.said
    assert slurm.NO_ACCOUNTING not in away.said
    assert failure("sacct", away).transient


@pytest.mark.parametrize("name", ["held", "ended", "unknown"])
def test_what_is_no_error_of_scancel(release: str, name: str) -> None:
    answer = case("scancel", release, name)
    assert not answer.status or any(words in answer.said for words in slurm.ENDED_ALREADY)


def test_another_users_job(release: str) -> None:
    answer = case("scancel", release, "another-users")
    assert answer.status and not any(words in answer.said for words in slurm.ENDED_ALREADY)
    assert not failure("scancel", answer).transient
