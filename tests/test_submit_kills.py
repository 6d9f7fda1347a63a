"""The submitting client, killed at each boundary and at seeded moments between.

Whatever the moment: the history is read, Slurm has one job of the run or none and the client says
which, and user code runs once or never.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcrun.record import decode_page
from hpcrun.workflow.refresh import CUT
from tests.campaign import Figures, seeded, times
from tests.lab import eventually
from tests.submission import Place

pytestmark = pytest.mark.cluster

SEEDS = times(100)
"""Kills at seeded moments; those at boundaries come on top."""

GO_ON = times(10, 1)
"""How many of the runs without a job are submitted again."""


# What a site's own sbatch could be: a script around the real one.
BEFORE = "kill -9 $PPID; exit 1\n"
AFTER = '/usr/bin/sbatch "$@"; kill -9 $PPID\n'
LEFT_ALONE = '/usr/bin/sbatch "$@" & sleep {seconds}; kill -9 $PPID; wait\n'
BOTH = '/usr/bin/sbatch "$@" & sleep {seconds}; kill -9 $! $PPID; wait\n'


def kill_when(
    client: subprocess.Popen[str], is_there: Callable[[], bool], seconds: float = 0
) -> bool:
    """Kills a client some seconds after something is there; whether it was killed in time."""
    while client.poll() is None and not is_there():
        time.sleep(0.001)
    time.sleep(seconds)
    client.kill()
    client.communicate()
    return client.returncode == -signal.SIGKILL


def kinds(place: Place) -> set[str]:
    """What clients told of any run of the workspace."""
    told = set()
    for name in place.names():
        for path in (place.active / name).glob("client-*.jsonl"):
            told |= {fact.kind for fact in decode_page(path.read_bytes()).facts}
    return told


def submit_until_killed(place: Place, wrapper: str) -> None:
    """A submission whose sbatch kills it."""
    before = set(place.names())
    done = place.run("submit", bin=place.script("sbatch", wrapper))
    assert done.returncode == -signal.SIGKILL, (done.returncode, done.stdout, done.stderr)
    assert len(set(place.names()) - before) == 1


def check(place: Place) -> dict[str, bool]:
    """What must hold once all clients are dead; gives run id → whether it has a job."""
    runs = eventually(lambda: settled(place))
    assert sorted(runs) == sorted(place.names())
    known = place.jobs()
    for run_id, run in runs.items():
        assert known.get(run_id, []) == ([run["job_id"]] if run["job_id"] else []), run
        if run["job_id"]:
            assert run["status"] == "Completed", run
            assert place.ran(run_id) == ["begun", *["logged"] * 3]
            assert place.points(run_id) == [1, 1 / 2, 1 / 3]
        else:
            assert (run["status"], run["verdict"]["cause"]) == ("Failed", "submit_failed")
            assert "there is no job" in run["verdict"]["sentence"]
            assert place.ran(run_id) == []
    return {run_id: bool(run["job_id"]) for run_id, run in runs.items()}


def settled(place: Place) -> dict[str, dict[str, str]] | None:
    runs = place.runs()
    return runs if all(run["verdict"] for run in runs.values()) else None


def no_job(run_id: str) -> str:
    """The words on a run that has none, and how to go on."""
    return f"{run_id}: {CUT}there is no job; `hpcrun resubmit {run_id}` hands it over\n"


def go_on(place: Place, run_id: str) -> None:
    """Submits a run again that has no job, as it was told: that is its first life."""
    assert place.run("resubmit", run_id).returncode == 0
    run = eventually(lambda: r if (r := place.json("show", run_id))["verdict"] else None)
    assert run["status"] == "Completed" and run["job_id"] in place.jobs()[run_id], run
    assert place.ran(run_id) == ["begun", *["logged"] * 3]


def hand_in_again(place: Place, run_id: str, has_run: bool) -> None:
    """The stored script, submitted by hand: its user code does not run (again)."""
    before = place.runs()[run_id]
    assert "duplicate" in place.sbatch(run_id)
    assert len(place.ran(run_id)) == (4 if has_run else 0)
    assert place.runs()[run_id] == before


# -- boundaries ---------------------------------------------------------------------------------


def test_kill_before_sbatch(place: Place) -> None:
    submit_until_killed(place, BEFORE)
    # From another host nobody can see whether the client lives: it is given time.
    words, environ = place.words("list", "--json"), place.environment()
    elsewhere = place.lab.cluster.run("alice", words, env=environ, node="n1").stdout
    assert '"status": "NotStarted"' in elsewhere and "not known yet" in elsewhere
    said = place.run("list", XDG_CACHE_HOME="/dev/null").stderr
    ((run_id, has_job),) = check(place).items()
    assert not has_job and said == f"hpcrun: run {no_job(run_id)}"
    hand_in_again(place, run_id, has_run=False)
    assert f"`hpcrun resubmit {run_id}` hands it over" in place.run("show", run_id).stdout
    go_on(place, run_id)


def test_kill_after_sbatch(place: Place) -> None:
    submit_until_killed(place, AFTER)
    ((run_id, has_job),) = check(place).items()
    assert has_job
    hand_in_again(place, run_id, has_run=True)


@pytest.mark.parametrize("wrapper", [LEFT_ALONE, BOTH], ids=["sbatch-goes-on", "sbatch-dies-too"])
def test_kill_during_sbatch(place: Place, wrapper: str) -> None:
    seconds = [random.Random(seed).uniform(0, 0.02) for seed in range(6)]
    for moment in seconds:
        submit_until_killed(place, wrapper.format(seconds=moment))
        # At once, while an sbatch may still be at work: it is read.
        (newest,) = place.json("list", "-n", "1")
        assert newest["status"] != "Failed" or wrapper is BOTH
    has_job = check(place)
    assert len(has_job) == len(seconds)
    if wrapper is LEFT_ALONE:
        assert all(has_job.values())


WAITS = """\
(
    for _ in {1..3000}; do [ -e "${0%/*}/../go" ] && break; sleep 0.1; done
    exec /usr/bin/sbatch "$@"
) &
kill -9 $PPID
wait
"""


def test_kill_of_a_client_whose_sbatch_waits(place: Place) -> None:
    """As long as a busy controller keeps it waiting, nobody says that there is no job."""
    submit_until_killed(place, WAITS)
    ((_, run),) = place.runs().items()
    assert run["status"] == "NotStarted"
    assert "not known yet" in run["problems"][0]
    (place.source / "go").touch()
    assert all(check(place).values())


def appears(place: Place, what: str) -> Callable[[], bool]:
    return {
        "snapshot": lambda: bool(snapshots(place)),
        "intent": lambda: bool(place.names()),
        "submitting": lambda: "submitting" in kinds(place),
        "submitted": lambda: "submitted" in kinds(place),
    }[what]


@pytest.mark.parametrize("what", ["snapshot", "intent", "submitting", "submitted"])
def test_kill_as_soon_as_it_is_written(place: Place, what: str) -> None:
    is_there = appears(place, what)
    assert kill_when(place.start("submit"), is_there) or what == "submitted"
    assert is_there()
    if what == "submitted":
        assert all(check(place).values())
    elif what != "snapshot":
        assert len(check(place)) == 1
    # The next submission finds nothing in its way.
    assert place.run("submit").returncode == 0


# -- seeded moments -----------------------------------------------------------------------------


@pytest.mark.campaign
def test_kill_at_seeded_moments(place: Place, figures: Figures) -> None:
    """Between the snapshot, the first that a submission leaves behind, and its last word."""
    assert place.run("submit").returncode == 0
    whole = time_after_snapshot(place)

    def kill_one(chance: random.Random) -> bool:
        known = snapshots(place)
        (place.source / "seed.py").write_text(f"{chance.random()}\n")
        client = place.start("submit")
        moment = chance.uniform(0, whole)
        return kill_when(client, lambda: snapshots(place) != known, moment)

    tries = killed = 0
    for chance in seeded("submit", 10 * SEEDS):
        tries += 1
        killed += kill_one(chance)
        if killed == SEEDS:
            break
    has_job = check(place)
    runs = place.runs()
    without = [run_id for run_id, is_there in has_job.items() if not is_there]
    for run_id in without:
        assert runs[run_id]["verdict"]["hint"] == f"`hpcrun resubmit {run_id}` hands it over"
    for run_id in without[:GO_ON]:
        go_on(place, run_id)
    figures.tell(
        "client killed during submit",
        killed=killed,
        runs_with_one_job=len(has_job) - len(without) - (2 + tries - killed),
        runs_with_none_and_told_so=len(without),
        no_run_yet=2 + tries - len(has_job),
    )


def snapshots(place: Place) -> set[str]:
    return {path.name for path in Path(place.own.snapshots).glob("*.json")}


def time_after_snapshot(place: Place) -> float:
    """Seconds from the snapshot to the end of a submission."""
    known = snapshots(place)
    (place.source / "seed.py").write_text("none\n")
    client = place.start("submit")
    while snapshots(place) == known:
        assert client.poll() is None
    began = time.monotonic()
    assert client.wait() == 0
    client.communicate()
    return time.monotonic() - began
