"""Slurm's daemons away: before, during and after submissions, and while runs end in every way."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcrun.errors import SchedulerError
from hpcrun.scheduler.slurm import NO_SUCH_JOB
from hpcrun.verdict import SILENT
from tests.campaign import KILLS, Figures, seeded, times
from tests.cluster import Cluster
from tests.lab import eventually
from tests.submission import Place

pytestmark = [pytest.mark.cluster, pytest.mark.campaign]

WAITING = "hpcrun: waiting for Slurm: "

# As TRAIN of tests.submission, and goes on for as long as it is held.
HELD = """\
import os, sys, time
from hpcrun import Run

run = Run.get_context()
ran = os.open(os.path.join(sys.argv[1], run.id), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(ran, b"begun\\n")
step = 0
while step < 3 or os.path.exists(os.path.join(sys.argv[1], "hold")):
    run.log("loss", step, step=step)
    os.write(ran, b"logged\\n")
    time.sleep(0.1)
    step += 1
"""


@contextlib.contextmanager
def alone(cluster: Cluster) -> Iterator[None]:
    """Those who share the cluster take turns in stopping its daemons."""
    with (cluster.layout.run / "daemons.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def no_controller(cluster: Cluster) -> Iterator[None]:
    """slurmctld is away."""
    with alone(cluster):
        cluster.stop_controller()
        try:
            yield
        finally:
            cluster.start_controller()


@contextlib.contextmanager
def frozen_controller(cluster: Cluster) -> Iterator[None]:
    """slurmctld takes calls and answers none, as long as this lasts."""
    with alone(cluster):
        cluster.freeze_controller(True)
        try:
            yield
        finally:
            cluster.freeze_controller(False)


@contextlib.contextmanager
def no_records(cluster: Cluster) -> Iterator[None]:
    """slurmdbd is away."""
    with alone(cluster):
        cluster.stop_records()
        try:
            yield
        finally:
            cluster.start_records()


def ended(clients: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and complaints of each, in that order."""
    said = [client.communicate(timeout=300) for client in clients]
    return [(client.returncode, *words) for client, words in zip(clients, said, strict=True)]


def all_ended(place: Place, count: int) -> dict[str, Any]:
    """So many runs, once all have ended."""

    def look() -> dict[str, Any] | None:
        runs = place.runs()
        assert len(runs) == count
        return runs if all(run["verdict"] for run in runs.values()) else None

    found: dict[str, Any] = eventually(look, 300)
    return found


def is_whole(place: Place, run: Any) -> None:
    """A run that has run once, in one job, and all whose log calls returned."""
    assert (run["status"], run["lost_records"], run["bad_lines"]) == ("Completed", 0, 0), run
    assert place.jobs()[run["run_id"]] == [run["job_id"]]
    begun, *logged = place.ran(run["run_id"])
    assert begun == "begun" and set(logged) == {"logged"}
    assert place.points(run["run_id"]) == list(range(len(logged)))


# -- the controller -----------------------------------------------------------------------------


def test_a_controller_that_is_stopped_before_and_after_submissions(
    place: Place, figures: Figures
) -> None:
    """What runs goes on and ends without it; what is handed over meanwhile has no job."""
    (place.source / "train.py").write_text(HELD)
    count, short = times(100), KILLS
    done: list[tuple[int, str, str]] = []
    held = place.json("submit", "--set", "sbatch={hold: null}")["run_id"]
    for _ in range(count // short):
        hold = place.source / "ran" / "hold"
        hold.touch()
        known = set(place.names())
        assert {code for code, *_ in ended([place.start("submit") for _ in range(short)])} == {0}
        before = sorted(set(place.names()) - known)
        eventually(lambda ids=before: all(place.ran(run_id) for run_id in ids))
        with no_controller(place.lab.cluster):
            clients = [place.start("submit") for _ in range(short)]
            listing = place.start("list", "-n", "0")
            hold.unlink()
            waited = ended([place.start("wait", run_id) for run_id in before])
            done += ended(clients)
            ((code, listed, complaints),) = ended([listing])
        assert [code for code, *_ in waited] == [0] * short
        assert code == 0 and all(run_id in listed for run_id in (held, *before))
        assert f"{WAITING}squeue has not answered yet" in complaints
        assert "states may be old, not refreshed: " in complaints
        assert "Unable to contact slurm controller" in complaints
    for code, _, complaints in done:
        *waiting, line = complaints.splitlines()
        assert code == SchedulerError.exit_code
        assert any(said.startswith(f"{WAITING}sbatch has not answered yet") for said in waiting)
        assert "Unable to contact slurm controller" in line and "try again" in line
    assert place.run("cancel", held).returncode == 0
    runs = all_ended(place, 2 * count + 1)
    assert runs.pop(held)["verdict"]["cause"] == "canceled"
    whole = [run for run in runs.values() if run["job_id"]]
    for run in whole:
        is_whole(place, run)
    refused = [run for run in runs.values() if not run["job_id"]]
    for run in refused:
        assert (run["status"], run["verdict"]["cause"]) == ("Failed", "submit_failed")
        assert run["run_id"] not in place.jobs() and place.ran(run["run_id"]) == []
    assert len(whole) == len(refused) == count
    assert place.run("resubmit", refused[0]["run_id"]).returncode == 0
    is_whole(place, eventually(lambda: of_one_job(place, refused[0]["run_id"])))
    figures.tell("controller stopped after submit", runs=count, whole=len(whole))
    figures.tell("controller stopped before submit", runs=count, without_job=len(refused))


def of_one_job(place: Place, run_id: str) -> Any:
    run = place.json("show", run_id)
    return run if run["job_id"] and run["verdict"] else None


def test_a_controller_that_freezes_during_submissions(place: Place, figures: Figures) -> None:
    """sbatch gives up; the controller makes the job all the same, once it goes on."""
    count, short, unknown = times(100), KILLS, 0
    chances = seeded("controller", count)
    for _ in range(count // short):
        known = len(place.names())
        pauses = [next(chances).uniform(0, 0.5) for _ in range(short)]
        folders = [
            place.script("sbatch", f'sleep {pause}\nexec /usr/bin/sbatch "$@"\n')
            for pause in pauses
        ]
        clients = [place.start("submit", bin=folder) for folder in folders]
        eventually(lambda n=known: len(place.names()) > n)
        time.sleep(next(iter(seeded(f"freeze {known}", 1))).uniform(0, 0.5))
        with frozen_controller(place.lab.cluster):
            listing = place.start("list", "-n", "0", "--json")
            done = ended(clients)
            ((_, listed, _),) = ended([listing])
        for code, _, complaints in done:
            assert code in (0, SchedulerError.exit_code), complaints
            if code:
                assert f"{WAITING}sbatch has not answered yet" in complaints
                assert (
                    "is not known yet" in complaints and "do not submit it a second" in complaints
                )
                unknown += 1
        for run in json.loads(listed):
            assert run["job_id"] or (run["status"] == "NotStarted" and run["problems"]), run
        for run in all_ended(place, known + short).values():
            assert (run["status"], place.jobs()[run["run_id"]]) == ("Completed", [run["job_id"]])
            assert place.ran(run["run_id"]) == ["begun", *["logged"] * 3]
            assert place.points(run["run_id"]) == [1, 1 / 2, 1 / 3]
    assert unknown
    figures.tell(
        "controller frozen during submit",
        submissions=count,
        unknown=unknown,
        runs_with_one_job=count,
    )


# -- slurmdbd -----------------------------------------------------------------------------------

ENDS = """\
import os, signal, sys, time
from hpcrun import Run

how, attempt = sys.argv[2], os.environ["HPCRUN_ATTEMPT"]
first = attempt == "1.0"
run = Run.get_context()
run.log("loss", 1)
print("up", flush=True)
with open("outputs/" + attempt, "w") as file:
    file.write(how)
with open(os.path.join(sys.argv[1], run.id), "a") as ran:
    ran.write("begun ")
if how == "exit_code":
    sys.exit(3)
if how == "signal":
    os.kill(os.getpid(), signal.SIGSEGV)
if how == "out_of_memory":
    hold = [bytearray(50 << 20) for _ in range(40)]
if how != "completed" and first:
    time.sleep(300)
"""

MORE = {
    "out_of_memory": ("resources.memory=300M", "distributed_job_config={kind: mpi}"),
    "preempted": ("resources.exclusive=true", "sbatch={nodelist: n4}"),
}
"""What some runs ask for besides."""

CAUSES = {
    "completed": ["completed"],
    "exit_code": ["exit_code"],
    "signal": ["signal"],
    "out_of_memory": ["out_of_memory"],
    "time_limit": ["time_limit"],
    "canceled": ["canceled"],
    "scancel": ["canceled"],
    "root": ["canceled"],
    "requeued": ["requeued", "completed"],
    "preempted": ["preempted", "completed"],
}
"""How each attempt of a run must end, at the latest once slurmdbd answers again."""


def submit_ends(place: Place, *hows: str) -> dict[str, str]:
    """The ids of runs that are to end in these ways."""
    clients = []
    for how in hows:
        sets = [word for value in MORE.get(how, ()) for word in ("--set", value)]
        target = "test-cluster/low" if how == "preempted" else "test-cluster"
        clients.append(place.start("submit", "--json", "-t", target, *sets, "--", how))
    done = ended(clients)
    assert [code for code, *_ in done] == [0] * len(hows), done
    ids = [str(json.loads(output)["run_id"]) for _, output, _ in done]
    return dict(zip(hows, ids, strict=True))


def act(place: Place, how: str, job_id: str) -> None:
    """What happens to a job that goes on."""
    cluster = place.lab.cluster
    command = {
        "time_limit": ("root", "ctl", ["scontrol", "update", f"jobid={job_id}", "EndTime=now+3"]),
        "scancel": ("alice", "login", ["scancel", job_id]),
        "root": ("root", "ctl", ["scancel", job_id]),
        "requeued": ("alice", "login", ["scontrol", "requeue", job_id]),
        "preempted": (
            "bob",
            "login",
            ["sbatch", "-phigh", "-wn4", "--exclusive", "-o/dev/null", "--wrap=sleep 1"],
        ),
    }.get(how)
    if command is not None:
        user, node, words = command
        done = cluster.run(user, words, node=node, cwd=cluster.shared)
        assert done.returncode == 0, (how, done.stderr)


def test_runs_end_in_every_way_while_slurmdbd_is_away(place: Place, figures: Figures) -> None:
    """Each has its verdict all the same, and the whole story if slurmdbd is back in time."""
    if not place.lab.cluster.has_accounting():
        pytest.skip("this cluster is up without accounting")
    (place.source / "train.py").write_text(ENDS)
    rounds, story = times(10, 1), dict[str, list[str]]()
    with no_records(place.lab.cluster):
        for _ in range(rounds):
            known = submit_ends(place, "preempted")  # it has its node before the others come
            known |= submit_ends(place, *(how for how in CAUSES if how not in known))
            eventually(lambda ids=known: all(place.ran(i) for i in ids.values()))
            runs = place.runs()
            for how, run_id in known.items():
                act(place, how, runs[run_id]["job_id"])
            assert place.run("cancel", known["canceled"]).returncode == 0
            story |= {run_id: CAUSES[how] for how, run_id in known.items()}
            lives = {run_id: len(CAUSES[how]) for how, run_id in known.items()}
            eventually(lambda wanted=lives: have_ended(place, wanted))
            runs = place.runs()
            for how, run_id in known.items():
                assert causes(runs[run_id])[-1] == CAUSES[how][-1], runs[run_id]
                is_kept(place, runs[run_id], how)
            for how in ("scancel", "root"):
                verdict = runs[known[how]]["verdict"]
                assert "an unknown user" in verdict["sentence"] and SILENT in verdict["hint"]
        # Once it is back sacct knows nothing for seconds, of jobs that the controller may have
        # forgotten: in the full count it has.
        assert place.run("list", "-n", "0", bin=forgetful(place)).returncode == 0

    def is_told() -> bool:
        runs = place.runs()
        return all(causes(runs[run_id]) == wanted for run_id, wanted in story.items())

    eventually(is_told)
    figures.tell("slurmdbd stopped", runs=len(story), right_verdicts=len(story))


def forgetful(place: Place) -> Path:
    """A Slurm that knows none of its jobs."""
    folder = place.script("sacct", "true\n")
    for name, text in (("squeue", "true\n"), ("scontrol", f"echo {NO_SUCH_JOB} >&2; exit 1\n")):
        place.script(name, text).joinpath(name).rename(folder / name)
    return folder


def is_kept(place: Place, run: Any, how: str) -> None:
    """The point, line and file of each attempt, once all is brought: Slurm may be quicker."""
    eventually(lambda: place.points(run["run_id"]) == [1] * len(CAUSES[how]))
    for attempt in run["attempts"]:
        name, files = attempt["attempt"], Path(run["files"])
        assert (files / "outputs" / name).read_text() == how
        assert "up" in (files / "user_logs" / name / "rank-0.log").read_text().splitlines()


def have_ended(place: Place, lives: dict[str, int]) -> bool:
    """Whether so many attempts of each run have ended."""
    runs = place.runs()
    return all(len([c for c in causes(runs[i]) if c]) == count for i, count in lives.items())


def causes(run: Any) -> list[str | None]:
    """How each attempt of a run has ended, as far as they have."""
    return [(attempt["verdict"] or {}).get("cause") for attempt in run["attempts"]]
