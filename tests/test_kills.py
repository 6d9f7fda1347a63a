"""Kills at seeded moments: training process, client, agent. No acknowledged point is lost.

A point counts as acknowledged once its log call has returned and that is in the kernel's keeping:
in a pipe whose reader survives, or in a file that is opened to append. A kill counts only if it
lands after the first acknowledged point and before the process would have ended by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hpcrun.record import Fact, decode_page
from tests.agent_job import alive, until
from tests.campaign import Figures, times
from tests.lab import Lab, eventually

KILLS = 12

TRAINERS = times(200)
"""Training processes that are killed in one run."""

AGENTS = times(100, 12)

RUN_YAML = """\
script: train.py
experiment: kills
resources: {time: 5m}
"""

# Logs for ever; tells on standard output, unbuffered, which calls have returned.
ENDLESS = """\
import os, sys, time
from hpcrun import Run

run = Run.get_context()
seed = int(sys.argv[1])
out = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT) if sys.argv[2:] else 1
number = 0
while True:
    run.log(f"point-{seed}", number, step=number)
    os.write(out, b"%d\\n" % number)
    number += 1
    if number % 20 == 0:
        time.sleep(0.001)
"""

# Starts one trainer after another and kills each; the pipe keeps what was acknowledged.
SUPERVISOR = """\
import json, random, signal, subprocess, sys, time

acknowledged = {}
for seed in range(int(sys.argv[1])):
    words = [sys.executable, "endless.py", str(seed)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        first = child.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, 0.15))
        child.send_signal(signal.SIGKILL)
        lines = first.split() + child.stdout.read().split()
    assert child.returncode == -signal.SIGKILL, child.returncode
    acknowledged[seed] = len(lines)
    with open("outputs/acknowledged.json", "w") as file:
        json.dump(acknowledged, file)
"""


class Here:
    """hpcrun on this machine, target local, in a workspace of its own."""

    def __init__(self, root: Path) -> None:
        self.workspace = root / "history"
        self.source = root / "source"

    def make(self, files: Mapping[str, str]) -> Here:
        self.source.mkdir()
        for name, text in files.items():
            (self.source / name).write_text(text)
        return self

    def start(self, *words: str) -> subprocess.Popen[str]:
        foreign = ("HPCRUN_", "SLURM_", "RANK", "WORLD_SIZE", "MASTER_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return subprocess.Popen(
            [sys.executable, "-m", "hpcrun", "-w", str(self.workspace), *words],
            cwd=self.source,
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, command: str, *words: str) -> Any:
        with self.start(command, "--json", *words) as client:
            output, error = client.communicate()
        assert client.returncode in (0, 20), (output, error)
        return json.loads(output)


def logged(record: Path) -> dict[int, list[int]]:
    """seed → its points in the order of their steps, from the journals of a run."""
    facts: list[Fact] = []
    for path in record.glob("*.metrics.jsonl"):
        page = decode_page(path.read_bytes(), path.name)
        facts += [fact for fact in page.facts if fact.kind == "metric"]
    points: dict[int, list[int]] = {}
    for fact in sorted(facts, key=lambda fact: fact.number):
        points.setdefault(int(fact.data["m"].removeprefix("point-")), []).append(fact.data["v"])
    return points


def nothing_lost(points: list[int], acknowledged: int) -> None:
    """Each acknowledged point is there once; one more may be, whose call did not return."""
    assert points == list(range(len(points)))
    assert acknowledged <= len(points) <= acknowledged + 1


def count(acknowledgements: Path) -> int:
    return acknowledgements.read_bytes().count(b"\n") if acknowledgements.exists() else 0


def started(record: Path) -> Fact:
    """What the agent of a run told first."""
    (path,) = record.glob("agent-*.jsonl")
    (fact,) = (f for f in decode_page(path.read_bytes()).facts if f.kind == "started")
    return fact


# -- the training process -----------------------------------------------------------------------

SUPERVISED = {
    "run.yaml": RUN_YAML + f"arguments: [{TRAINERS}]\n",
    "train.py": SUPERVISOR,
    "endless.py": ENDLESS,
}


def survived(run: Mapping[str, Any], figures: Figures) -> None:
    """A run whose supervisor killed all of its trainers."""
    assert run["status"] == "Completed", run
    assert (run["lost_records"], run["problems"]) == (0, [])
    acknowledged = json.loads(Path(run["files"], "outputs/acknowledged.json").read_text())
    assert len(acknowledged) == TRAINERS and min(acknowledged.values()) >= 1
    points = logged(Path(run["record"]))
    for seed, number in acknowledged.items():
        nothing_lost(points[int(seed)], number)
    total = sum(acknowledged.values())
    where = f"training process killed, target {run['target']}"
    figures.tell(where, killed=TRAINERS, points_acknowledged=total, lost=0)


@pytest.mark.campaign
def test_kill_of_the_training_process(tmp_path: Path, figures: Figures) -> None:
    here = Here(tmp_path).make(SUPERVISED)
    run_id = here.json("submit", "-t", "local")["run_id"]
    survived(here.json("wait", run_id), figures)
    metrics = here.json("metrics", run_id)
    assert len(metrics) == TRAINERS


@pytest.mark.cluster
@pytest.mark.campaign
def test_kill_of_the_training_process_in_slurm(lab: Lab, figures: Figures) -> None:
    source = lab.folder("killed-training", SUPERVISED)
    run_id = lab.submit(source, "-t", "test-cluster")
    survived(lab.wait(run_id, timeout=2 * TRAINERS + 120), figures)


# -- the client ---------------------------------------------------------------------------------

BRIEF = """\
import os
from hpcrun import Run

run = Run.get_context()
with open("outputs/ran", "a") as file:
    run.log("point-0", 0)
    file.write("once\\n")
"""


def test_kill_of_the_submitting_client(tmp_path: Path) -> None:
    """There is one job or none, the client says which, and user code runs once or never."""
    here = Here(tmp_path).make({"run.yaml": RUN_YAML, "train.py": BRIEF})
    run = here.json("wait", here.json("submit", "-t", "local")["run_id"])
    snapshots = Path(run["record"]).parents[1] / "snapshots"
    killed, seed = 0, 0
    while killed < KILLS:
        seed += 1
        killed += client_killed(here, snapshots, seed)
    runs = eventually(lambda: all_ended(here))
    for run in runs:
        ran = Path(run["files"], "outputs/ran")
        if run["job_id"]:
            assert run["status"] == "Completed", run
            assert ran.read_text() == "once\n"
            assert logged(Path(run["record"])) == {0: [0]}
        else:
            assert run["verdict"]["cause"] == "submit_failed"
            assert not ran.exists()


def client_killed(here: Here, snapshots: Path, seed: int) -> bool:
    """Kills a client within 0.1 s of its snapshot; whether that was before its end."""
    (here.source / "seed.py").write_text(f"{seed}\n")
    known = set(snapshots.glob("*.json"))
    with here.start("submit", "-t", "local") as client:
        while client.poll() is None and set(snapshots.glob("*.json")) == known:
            time.sleep(0.001)
        time.sleep(random.Random(seed).uniform(0, 0.1))
        client.kill()
    return client.returncode == -signal.SIGKILL


def all_ended(here: Here) -> Any:
    runs = here.json("list", "-n", "0")
    return runs if all(run["verdict"] for run in runs) else None


# -- the agent ----------------------------------------------------------------------------------


@pytest.mark.campaign
def test_kill_of_the_agent(tmp_path: Path, figures: Figures) -> None:
    here = Here(tmp_path).make({"run.yaml": RUN_YAML, "train.py": ENDLESS})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: agent_killed(here, seed), range(AGENTS)))
    figures.tell("agent killed, target local", killed=AGENTS, lost=0)


def agent_killed(here: Here, seed: int) -> None:
    run = here.json("submit", "-t", "local", "--", str(seed), "outputs/acknowledged")
    acknowledgements = Path(run["files"], "outputs/acknowledged")
    until(lambda: count(acknowledgements) > 0)
    time.sleep(random.Random(seed).uniform(0, 0.3))
    pid = started(Path(run["record"])).data["pid"]
    assert alive(pid)
    before = count(acknowledgements)
    os.kill(pid, signal.SIGKILL)
    # A reader that comes at once finds a run, too.
    assert here.json("show", run["run_id"])["run_id"] == run["run_id"]
    until(lambda: "agent_lost" in journal(run))
    run = here.json("show", run["run_id"])
    assert (run["status"], run["verdict"]["cause"]) == ("Failed", "agent_lost")
    assert (run["lost_records"], run["bad_lines"]) == (0, 0)
    assert count(acknowledgements) >= before >= 1
    until(lambda: len(logged(Path(run["record"])).get(seed, ())) >= count(acknowledgements))
    nothing_lost(logged(Path(run["record"]))[seed], count(acknowledgements))


def journal(run: Mapping[str, Any]) -> str:
    """What the keeper of this node told."""
    return "".join(path.read_text() for path in Path(run["record"]).glob("node-*.jsonl"))


def processes_of(run_id: str) -> list[int]:
    """The processes of a run on this machine's nodes; the agent and its keeper come first.

    In the order in which they began: numbers begin anew after the largest.
    """
    mark = f"HPCRUN_RUN_ID={run_id}\0".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes():
                began = (entry / "stat").read_text().rpartition(") ")[2].split()[19]
                found.append((int(began), int(entry.name)))
    return [number for _, number in sorted(found)]


def ended(lab: Lab, run_id: str) -> Any:
    """The run, once it has ended. A reader without a memory of heartbeats asks the scheduler."""
    run = lab.json("show", run_id, env={"XDG_CACHE_HOME": "/dev/null"})
    return run if run["verdict"] else None
