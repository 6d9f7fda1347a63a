"""Faults that meet many runs at the same time, on the real cluster.

Of each: what is seen meanwhile (`Trials.watched`), what the history says afterwards, and that all
whose call had returned is there: points, files that were closed, lines of the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcrun.record import decode_page
from tests.campaign import Figures, seeded, times
from tests.cluster.hosts import view
from tests.cluster.layout import NODES
from tests.lab import Lab, eventually
from tests.submission import Place, make_place
from tests.test_kills import processes_of
from tests.trials import ENDS, Trials

pytestmark = pytest.mark.cluster

COUNT = times(30)
"""Runs that meet a fault side by side; the cluster has 32 CPUs."""

STOPPED = times(60, 5)
"""Seconds for which an agent is stopped."""

STEP = "distributed_job_config: {kind: mpi, launcher: srun}\n"


@pytest.fixture
def place(accounted: Lab, request: pytest.FixtureRequest) -> Iterator[Place]:
    with make_place(accounted, request.node.name[5:25]) as place:
        yield place


def at_moments(fault: str, trials: Trials, act: Callable[[int], object]) -> None:
    """Acts on one run after another, some moment after the one before."""
    for number, chance in enumerate(seeded(fault, len(trials.runs))):
        time.sleep(chance.uniform(0, 0.1))
        act(number)


def agent_of(run: Any, life: str = "1.0") -> int:
    """The process id of its agent."""
    page = decode_page(Path(run["record"], f"agent-{life}.jsonl").read_bytes())
    (pid,) = (fact.data["pid"] for fact in page.facts if fact.kind == "started")
    return int(pid)


def has_ended(run: Any) -> bool:
    return run["status"] in ENDS and run["verdict"]["cause"] != "unknown"


def causes(run: Any) -> list[tuple[str, str]]:
    return [(each["attempt"], cause_of(each)) for each in run["attempts"]]


def cause_of(attempt: Any) -> str:
    return str(attempt["verdict"]["cause"])


# -- the training process -------------------------------------------------------------------------

LIVES = times(7, 1)
"""How often the training process of each run is killed."""


@pytest.mark.campaign
def test_training_processes_are_killed(place: Place, figures: Figures) -> None:
    trials = Trials.at(place)
    trials.submit(COUNT)
    with trials.watched() as looks:
        for life in range(1, LIVES + 1):
            if life > 1:
                trials.resubmit()
            trials.until_logging(f"{life}.0")
            at_moments(f"training {life}", trials, lambda n: kill_training(trials.runs[n]))
            runs = trials.until(has_ended)
    for run in runs.values():
        assert causes(run) == [(f"{life}.0", "signal") for life in range(1, LIVES + 1)]
        for each in run["attempts"]:
            verdict = each["verdict"]
            assert (verdict["signal"], verdict["rank"]) == (signal.SIGKILL, 0), verdict
            assert "ended by SIGKILL; rank 0 on " in verdict["sentence"]
    assert trials.lost() == []
    assert statuses_in(looks) <= {"Queued", "Starting", "Running", "Finalizing", "Failed"}
    figures.tell(
        "training process killed, each a job",
        killed=len(runs) * LIVES,
        **kept(trials),
        lost=0,
        seen=" ".join(sorted(statuses_in(looks))),
    )


def kill_training(run: Any) -> None:
    for pid in processes_of(run["run_id"]):
        with contextlib.suppress(OSError):  # what ends meanwhile
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[1:2] == [b"train.py"]:
                os.kill(pid, signal.SIGKILL)


def statuses_in(looks: Sequence[Any]) -> set[str]:
    """What was told of runs meanwhile."""
    return {status for told, *_ in looks for status, *_ in told.values()}


def kept(trials: Trials) -> dict[str, int]:
    """How much of each kind had returned."""
    counts = Counter(one.kind for one in trials.acknowledged())
    return {f"{kind}s_kept": number for kind, number in sorted(counts.items())}


# -- one life after another -----------------------------------------------------------------------


@pytest.fixture
def at_once(accounted: Lab) -> Iterator[None]:
    """Preemption that leaves no grace time."""
    update = ["scontrol", "update", "partitionname=low"]
    accounted.cluster.run("root", [*update, "gracetime=0"], node="ctl")
    yield
    accounted.cluster.run("root", [*update, "gracetime=5"], node="ctl")


@pytest.mark.campaign
@pytest.mark.usefixtures("at_once")
def test_one_life_after_another(place: Place, figures: Figures) -> None:
    """Agents stopped; three preemptions in a row; a requeue and a cancel by hand; a canceled step;
    the time limit."""
    lab, trials = place.lab, Trials.at(place, STEP)
    trials.submit(COUNT, "-t", "test-cluster/low")
    trials.until_logging("1.0")
    with trials.watched() as looks:
        pids = [agent_of(run) for run in trials.runs]
        at_moments("agent stopped", trials, lambda n: os.kill(pids[n], signal.SIGSTOP))
        time.sleep(STOPPED)
        at_moments("agent goes on", trials, lambda n: os.kill(pids[n], signal.SIGCONT))
        whole = ["sbatch", "-p", "high", "-N4", "--exclusive", "-o", "/dev/null", "--wrap=true"]
        for preempted in range(3):
            assert lab.cluster.run("bob", whole, cwd=lab.cluster.shared).returncode == 0
            trials.until_logging(f"1.{preempted + 1}")
        jobs = trials.jobs()
        at_moments("requeue", trials, lambda n: trials.user("scontrol", "requeue", jobs[n]))
        trials.until_logging("1.4")
        at_moments("scancel", trials, lambda n: trials.user("scancel", jobs[n]))
        trials.until(has_ended)
        jobs = trials.resubmit()
        trials.until_logging("2.0")
        at_moments("scancel of a step", trials, lambda n: trials.user("scancel", f"{jobs[n]}.0"))
        trials.until(has_ended)
        jobs = trials.resubmit()
        trials.until_logging("3.0")
        # Slurm counts whole minutes; an administrator may set the end of a job that runs.
        soon = "EndTime=now+1"
        limit = ("scontrol", "update")
        at_moments("limit", trials, lambda n: trials.root(*limit, f"jobid={jobs[n]}", soon))
        runs = trials.until(has_ended)
    lives = {
        "1.0": "preempted",
        "1.1": "preempted",
        "1.2": "preempted",
        "1.3": "requeued",
        "1.4": "canceled",
        "2.0": "signal",
        "3.0": "time_limit",
    }
    for run in runs.values():
        odd = [each for each in run["attempts"] if lives.get(each["attempt"]) != cause_of(each)]
        assert (odd, len(run["attempts"])) == ([], len(lives)), json.dumps(odd)
        sentences = [each["verdict"]["sentence"] for each in run["attempts"]]
        assert sentences[3] == "the job was requeued by `scontrol requeue`"
        assert sentences[4] == "the run was canceled by alice"
        # Slurm's own line on the step may be lost on the way (22.05).
        evidence = run["attempts"][5]["verdict"]["evidence"]
        assert any("Job step aborted" in line for line in evidence), evidence
        assert (run["lost_records"], run["bad_lines"]) == (0, 0), run
    waited = len(trials.lost())
    trials.collect()
    assert trials.lost() == []
    figures.tell(
        f"agent stopped {STOPPED} s, preempted 3 times, requeued, canceled, step canceled, limit",
        each=len(runs),
        **kept(trials),
        not_in_the_history_before_collect=waited,
        lost=0,
        looks=len(looks),
        seen=" ".join(sorted(statuses_in(looks))),
    )


# -- the agent ------------------------------------------------------------------------------------


@pytest.mark.campaign
@pytest.mark.parametrize("whole_job", [False, True], ids=["agent", "job"])
def test_agents_are_killed(place: Place, whole_job: bool, figures: Figures) -> None:
    """Slurm ends the job with its agent: what its node's disk has left is collected."""
    trials = Trials.at(place)
    trials.submit(COUNT)
    trials.until_logging("1.0")
    with trials.watched():
        what = "processes of a job" if whole_job else "agent"
        at_moments(what, trials, lambda n: kill(trials.runs[n], whole_job))
        runs = trials.until(has_ended)
    for run in runs.values():
        assert run["status"] == "Failed"
        # Slurm may kill the keeper with the rest of the job before it can say a word.
        assert run["verdict"]["cause"] in ("agent_lost", "signal"), run["verdict"]
    trials.collect()
    assert trials.lost() == []
    figures.tell(f"{what} killed", killed=len(runs), lost=0, points=len(trials.acknowledged()))


def kill(run: Any, whole_job: bool) -> None:
    for pid in processes_of(run["run_id"]) if whole_job else [agent_of(run)]:
        with contextlib.suppress(ProcessLookupError):  # Slurm ends them as well
            os.kill(pid, signal.SIGKILL)


@pytest.mark.campaign
def test_nodes_have_not_the_agents_python(place: Place, figures: Figures) -> None:
    """The login node's /tmp, where it lies, is its own."""
    lab = place.lab
    trials = Trials.at(place, f"environment: {{python: {{interpreter_path: {lab.python}}}}}\n")
    (site,) = (lab.venv / "lib").glob("python3*/site-packages")
    line = (
        "rm -rf /tmp/venv && /usr/bin/python3 -m venv --without-pip /tmp/venv &&"
        f" (echo {site}; cat {site}/*.pth) >/tmp/venv/lib/{site.parent.name}/site-packages/lab.pth"
    )
    made = lab.cluster.run("alice", ["bash", "-c", line], env=lab.environment())
    assert made.returncode == 0, made.stderr
    statuses = [chance.choice([0, 3]) for chance in seeded("no agent", COUNT)]
    words = [["submit", "--json", "--", str(code)] for code in statuses]
    trials.runs.extend(trials.hpcrun(words, python="/tmp/venv/bin/python"))
    trials.until_logging("1.0")
    with trials.watched():
        time.sleep(1)
        trials.end()
        trials.until(has_ended)
        trials.hpcrun([["collect", "--json", run_id] for run_id in trials.ids])
        runs = trials.until(has_ended)
    for code, run_id in zip(statuses, trials.ids, strict=True):
        verdict = runs[run_id]["verdict"]
        cause = "exit_code" if code else "completed"
        assert (verdict["cause"], verdict["exit_code"]) == (cause, code), verdict
    assert lab.ok("collect", trials.ids[0], env=place.environment()) == (
        "nothing was left behind\n"
    )
    assert trials.lost() == []
    figures.tell("no agent: its Python is missing", runs=len(runs), lost=0)


# -- nodes ----------------------------------------------------------------------------------------

BROUGHT = 6.0
"""Seconds by which a point is on the store's disk: a look and a sync of the keeper, and haste."""

TWO = "distributed_job_config: {kind: mpi, node_count: 2, launcher: srun}\npreflight: false\n"


@pytest.fixture
def networked(accounted: Lab, network: Path) -> Iterator[Place]:
    """A workspace there; what it serves is looked at without any client."""
    with make_place(accounted, "power") as plain:
        accounted.cluster.mount_network("n3", "n4")
        layout = accounted.cluster.layout
        workspace = network / plain.source.name
        assert accounted.cluster.run("alice", ["mkdir", str(workspace)]).returncode == 0
        served = view(layout, "login", layout.served) / workspace.name
        yield Place(accounted, workspace, plain.source, plain.experiment, served)
        accounted.cluster.run("alice", ["rm", "-rf", str(workspace)])


PAIRS = (("n1", "n2"), ("n3", "n4"))
"""(the node with the batch script, the other one) of a job."""

OTHER, BATCH = "n2", "n3"
"""What loses power: of the first pair, of the second."""


@pytest.mark.campaign
def test_nodes_lose_power(networked: Place, figures: Figures) -> None:
    """The other node of half of the jobs, and the one with the batch script of the rest. Those that
    may be requeued go on, on the nodes that are left."""
    final = Trials.at(networked, TWO + "requeue: {allowed: false}\n")
    again = Trials(networked)
    each, gone = 4, dict[str, float]()  # all that two nodes have CPUs for
    for pair in PAIRS:
        with only(again, pair):
            final.submit(each)
            again.submit(each, "--set", "requeue.allowed=true")
            for trials in (final, again):
                trials.until_logging("1.0", (0, 1))
    both = Trials(networked, [*final.runs, *again.runs])
    with both.watched() as looks:
        time.sleep(BROUGHT)
        for node in (OTHER, BATCH):
            gone[node] = power_off(networked, node)
        final.until(has_ended)
        again.until_logging("1.1", (0, 1))
        late = [one for one in both.lost() if one.life == "1.0"]
        mend(networked, [OTHER, BATCH])
        both.end()
        runs = both.until(has_ended)
    for run_id in final.ids:
        assert causes(runs[run_id]) == [("1.0", "node_failure")], runs[run_id]
    for run_id in again.ids:
        lives = [("1.0", "node_failure"), ("1.1", "completed")]
        assert causes(runs[run_id]) == lives, json.dumps(runs[run_id]["attempts"])
        nodes = runs[run_id]["attempts"][1]["nodes"]
        assert {OTHER, BATCH}.isdisjoint(nodes), nodes
    fell = {}
    for trials in (final, again):
        fell |= dict.fromkeys(trials.ids[:each], (1, OTHER))
        fell |= dict.fromkeys(trials.ids[each:], (0, BATCH))
    for one in late:
        # On the node that goes on, nothing is late.
        rank, node = fell[one.run_id]
        assert one.rank == rank and one.kind != "file", one
        assert one.moment > gone[node] - BROUGHT, (one, gone[node])
    both.collect()
    lost = Counter(one.kind for one in both.lost())
    assert lost["point"] == 0, lost
    figures.tell(
        "node without power: the other one, the batch node",
        each=2 * each,
        gone_on_in_the_next_attempt=len(again.runs),
        acknowledged=len(both.acknowledged()),
        lost_if_older_than_6_s=0,
        not_in_the_history_before_collect=len(late),
        points_lost_after_collect=0,
        lines_lost_of_the_last_6_s=lost["line"],
        seen=" ".join(sorted(statuses_in(looks))),
    )


@contextlib.contextmanager
def only(trials: Trials, nodes: Sequence[str]) -> Iterator[None]:
    """No other nodes take jobs."""
    others = [node.name for node in NODES if node.name not in nodes]
    update = ("scontrol", "update", f"nodename={','.join(others)}")
    trials.root(*update, "state=drain", "reason=others")
    yield
    trials.root(*update, "state=resume")


def power_off(place: Place, node: str) -> float:
    """When, by the clock of what was acknowledged."""
    place.lab.cluster.node_link(node, False)
    moment = time.monotonic()
    place.lab.cluster.fail_node(node)
    return moment


def mend(place: Place, nodes: Sequence[str]) -> None:
    for node in nodes:
        place.lab.cluster.node_link(node, True)
    place.lab.cluster.mount_network(*nodes)
    place.lab.cluster.mend_node(*nodes)
    # The controller may yet find that they had not answered for a while.
    words = ["srun", f"--nodelist={','.join(nodes)}", "--immediate=5", "true"]
    eventually(lambda: place.lab.cluster.run("alice", words).returncode == 0, 180)


# -- clocks ---------------------------------------------------------------------------------------

CLOCK = """\
#define _GNU_SOURCE
#include <string.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long wrong(void) {
    char name[256] = "";
    const char *host = getenv("WRONG_HOST"), *seconds = getenv("WRONG_SECONDS");
    gethostname(name, sizeof name - 1);
    return host && seconds && !strcmp(name, host) ? atol(seconds) : 0;
}

int clock_gettime(clockid_t id, struct timespec *told) {
    int failed = syscall(SYS_clock_gettime, id, told);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        told->tv_sec += wrong();
    return failed;
}

int gettimeofday(struct timeval *told, void *zone) {
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    told->tv_sec = now.tv_sec;
    told->tv_usec = now.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *told) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told)
        *told = now.tv_sec;
    return now.tv_sec;
}
"""

HOUR = 3600


@pytest.mark.campaign
def test_a_nodes_clock_is_an_hour_wrong(place: Place, figures: Figures) -> None:
    """By a library of our own in front of libc's: namespaces do not move CLOCK_REALTIME."""
    library = wrong_clock(place)
    # The jobs would not begin: their preflight compares clocks.
    trials = Trials.at(place, TWO)
    cases = [("n1,n2", "n1", HOUR), ("n3,n4", "n4", -HOUR)]
    each = times(8, 5)
    for nodes, host, seconds in cases:
        variables = f"{{LD_PRELOAD: {library}, WRONG_HOST: {host}, WRONG_SECONDS: '{seconds}'}}"
        words = ["--set", f"environment_variables={variables}", "--set"]
        trials.submit(each, *words, f"sbatch={{nodelist: '{nodes}'}}", "--", "3")
    with trials.watched() as looks:
        trials.until_logging("1.0", (0, 1))
        time.sleep(1)
        trials.end()
        runs = trials.until(has_ended)
    assert "Running" in statuses_in(looks)
    for number, run_id in enumerate(trials.ids):
        nodes, host, _ = cases[number // each]
        run = runs[run_id]
        verdict, first = run["verdict"], nodes.split(",")[0]
        assert (verdict["cause"], verdict["rank"]) == ("exit_code", 0)
        assert f"rank 0 on {first} fell first" in verdict["sentence"], verdict
        told = [told_by(run, node) for node in nodes.split(",")]
        assert HOUR - 60 < abs(told[0] - told[1]) < HOUR + 60, (host, told)
        assert run["problems"] == [] and run["bad_lines"] == 0
    assert trials.lost() == []
    figures.tell("clock of a node an hour wrong", runs=len(runs), lost=0)


def wrong_clock(place: Place) -> Path:
    """The library; its host and by how much stand in variables."""
    (place.source / "clock.c").write_text(CLOCK)
    library = place.source / "clock.so"
    words = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(place.source / "clock.c")]
    done = place.lab.cluster.run("root", words, node="ctl")
    if done.returncode == 127:
        pytest.skip("there is no C compiler")
    assert done.returncode == 0, done.stderr
    return library


def told_by(run: Any, node: str) -> float:
    """A time by the clock of a node: when a rank there has ended."""
    page = decode_page(Path(run["record"], f"node-{node}-1.0.jsonl").read_bytes())
    return float(next(fact.time for fact in page.facts if fact.kind == "rank_ended"))
