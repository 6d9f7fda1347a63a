"""Attempts on the real cluster: resubmission, the signal before the limit, requeues."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab, eventually, go_on

pytestmark = pytest.mark.cluster

RUN_YAML = """\
script: train.py
compute_target: test-cluster
experiment: attempts
resources: {time: 10m}
"""


def folder(lab: Lab, name: str, text: str, more: str = "") -> Path:
    return lab.folder(f"attempts-{name}", {"run.yaml": RUN_YAML + more, "train.py": text})


def test_a_run_is_submitted_once_more(lab: Lab) -> None:
    text = (
        "import os\nfrom hpcrun import Run\nrun = Run.get_context()\n"
        "first = not os.path.exists('outputs/state')\n"
        "for step in (range(3) if first else range(2, 5)): run.log('loss', step, step=step)\n"
        "open('outputs/state', 'a').write('x')\n"
        "raise SystemExit(3 if first else 0)\n"
    )
    run = lab.wait(lab.submit(folder(lab, "resubmit", text)))
    assert run["status"] == "Failed"
    lab.ok("resubmit", run["run_id"])
    run = lab.wait(run["run_id"])
    assert run["status"] == "Completed", lab.ok("show", run["run_id"])
    first, second = run["attempts"]
    assert (first["attempt"], second["attempt"]) == ("1.0", "2.0")
    assert first["job_id"] != second["job_id"]
    assert lab.json("metrics", run["run_id"]) == {"loss": [0, 1, 2, 3, 4]}
    names = {file["name"] for file in lab.json("files", run["run_id"])}
    assert {"user_logs/batch-2.log", "user_logs/1.0/rank-0.log", "outputs/state"} <= names
    refused = lab.run("resubmit", run["run_id"], user="bob")
    assert refused.returncode == 10 and "alice's" in refused.stderr
    hidden = lab.folder("attempts-hidden", {"checkpoint": "x"}, user="bob")
    hidden.chmod(0o700)
    refused = lab.run("resubmit", "--resume-from", str(hidden / "checkpoint"), run["run_id"])
    assert refused.returncode == 2 and "there is no checkpoint" in refused.stderr


# -- stopping in time ---------------------------------------------------------------------------

UNTIL_TOLD = """\
import os, time
from hpcrun import Run
run = Run.get_context()
print("up", flush=True)
for _ in range(6000):
    if run.should_stop():
        open(f"outputs/rank-{run.rank}", "w").write(os.uname().nodename)
        raise SystemExit(0)
    time.sleep(0.05)
raise SystemExit(1)
"""

GOES_ON = """\
import os, time
from hpcrun import Run
run = Run.get_context()
first = os.environ["HPCRUN_ATTEMPT"] == "1.0"
run.log("loss", 1, step=0 if first else 1)
print("up", flush=True)
"""

SAVES = (
    "import signal, sys\n" + GOES_ON + "def save(*_):\n"
    "    time.sleep(1)\n    open(f'outputs/saved-{run.rank}', 'w').close()\n    sys.exit()\n"
    "signal.signal(signal.SIGTERM, save)\ntime.sleep(600 if first else 0)\n"
)
TWO_NODES = ("--set", "distributed_job_config={kind: mpi, node_count: 2}")


def is_up(lab: Lab, run_id: str) -> bool:
    return "up" in lab.run("logs", run_id).stdout


@pytest.fixture(scope="module")
def near_limit(lab: Lab) -> Mapping[str, str]:
    """The ids of runs that come near their time limit together: Slurm looks every 30 s, and warns
    by as much too early."""
    soon = ("--set", "stop.lead=10s", *TWO_NODES)
    saves = folder(lab, "ended", SAVES, "requeue: {at_time_limit: true}\n")
    ids = {
        "warned": lab.submit(folder(lab, "warned", UNTIL_TOLD), *soon),
        "ended": lab.submit(saves, *soon, "--set", "distributed_job_config.launcher=srun"),
    }
    for run_id in ids.values():
        eventually(lambda name=run_id: is_up(lab, name))
        # Slurm counts whole minutes; an administrator may set the end of a job that runs.
        job_id = lab.json("show", run_id)["job_id"]
        limit = ["scontrol", "update", f"jobid={job_id}", "EndTime=now+41"]
        assert lab.cluster.run("root", limit).returncode == 0
    return ids


def test_slurm_warns_all_ranks_on_all_nodes_before_the_limit(
    lab: Lab, near_limit: Mapping[str, str]
) -> None:
    run = lab.wait(near_limit["warned"])
    assert run["status"] == "Completed", lab.ok("show", run["run_id"])
    nodes = {Path(run["files"], f"outputs/rank-{rank}").read_text() for rank in range(2)}
    assert len(nodes) == 2


@pytest.mark.parametrize("launcher", ["mpirun", "srun"])
def test_a_person_asks_a_run_to_stop(lab: Lab, launcher: str) -> None:
    source = folder(lab, f"asked-{launcher}", UNTIL_TOLD)
    run_id = lab.submit(source, *TWO_NODES, "--set", f"distributed_job_config.launcher={launcher}")
    eventually(lambda: is_up(lab, run_id))
    job_id = lab.json("show", run_id)["job_id"]
    words = ["scancel", "--batch", "--signal=USR1", job_id]
    assert lab.cluster.run("alice", words).returncode == 0
    run = lab.wait(run_id)
    assert run["status"] == "Completed", lab.ok("show", run_id)
    assert len(list(Path(run["files"], "outputs").glob("rank-*"))) == 2


def test_a_preempted_run_hears_it_in_its_grace_time(lab: Lab) -> None:
    text = UNTIL_TOLD.replace("run = ", "os.path.exists('outputs/rank-0') and exit(0)\nrun = ")
    source = folder(lab, "preempted", text)
    more = ("-t", "test-cluster/low", "--set", "resources.exclusive=true")
    run_id = lab.submit(source, *more, *TWO_NODES)
    eventually(lambda: is_up(lab, run_id))
    whole = ["sbatch", "-p", "high", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1"]
    assert lab.cluster.run("bob", whole, cwd=lab.cluster.shared).returncode == 0
    go_on(lab, lab.json("show", run_id)["job_id"])
    run = lab.wait(run_id)
    assert run["status"] == "Completed", run
    assert [a["attempt"] for a in run["attempts"]] == ["1.0", "1.1"]
    assert len(list(Path(run["files"], "outputs").glob("rank-*"))) == 2


WORLDS = {
    "torch": (
        "import torch.distributed as dist\ndist.init_process_group('gloo')\n",
        "{kind: pytorch, node_count: 2, process_count: 4, communication_backend: Gloo}",
    ),
    "mpi4py": (
        "from mpi4py import MPI\n",
        "{kind: mpi, node_count: 2, process_count_per_node: 2}",
    ),
}
STEPS = """\
import json, random, time
from hpcrun import Run
run = Run.get_context()
print("up", flush=True)
step = 0
while not run.should_stop(every=3):
    time.sleep(random.random() / 20)
    step += 1
open(f"outputs/rank-{run.rank}", "w").write(str(step))
"""


@pytest.mark.parametrize("world", WORLDS)
def test_all_ranks_of_a_world_stop_at_the_same_step(lab: Lab, world: str) -> None:
    begin, distributed = WORLDS[world]
    end = "dist.barrier()\ndist.destroy_process_group()\n" if world == "torch" else ""
    source = folder(lab, f"world-{world}", begin + STEPS + end)
    words = ("--set", f"distributed_job_config={distributed}", "--set", f"environment={lab.venv}")
    run_id = lab.submit(source, *words)
    eventually(lambda: is_up(lab, run_id))
    job_id = lab.json("show", run_id)["job_id"]
    said = lab.cluster.run("alice", ["scancel", "--batch", "--signal=USR1", job_id])
    assert said.returncode == 0
    run = lab.wait(run_id)
    assert run["status"] == "Completed", lab.ok("show", run_id)
    steps = [int(Path(run["files"], f"outputs/rank-{rank}").read_text()) for rank in range(4)]
    assert len(set(steps)) == 1 and steps[0] % 3 == 2, steps


# -- checkpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_a_requeued_run_goes_on_from_its_newest_checkpoint(lab: Lab, launcher: str) -> None:
    text = (
        "import os, sys, time\nfrom hpcrun import Run\nrun = Run.get_context()\n"
        "print(sys.argv[1:], flush=True)\n"
        "if run.resume_from: raise SystemExit(0)\n"
        "if run.rank == 0:\n"
        "    open('outputs/checkpoint-1', 'w').write('1')\n"
        "    open('outputs/checkpoint-2.tmp', 'w').write('2')\n"
        "open(f'outputs/up-{run.rank}', 'w').close()\n"
        "time.sleep(300)\n"
    )
    source = folder(lab, f"newest-{launcher}", text, "resume_from: auto\n")
    run_id = lab.submit(source, *TWO_NODES, "--set", f"distributed_job_config.launcher={launcher}")
    run = lab.json("show", run_id)
    eventually(lambda: len(list(Path(run["files"], "outputs").glob("up-*"))) == 2)
    assert lab.cluster.run("alice", ["scontrol", "requeue", run["job_id"]]).returncode == 0
    go_on(lab, run["job_id"])
    run = lab.wait(run_id)
    assert run["status"] == "Completed", lab.ok("show", run_id)
    expected = f"['--resume-from', '{run['files']}/outputs/checkpoint-1']\n"
    for rank in range(2):
        log = Path(run["files"], f"user_logs/1.1/rank-{rank}.log")
        assert log.read_text() == expected


# -- requeues that the run asks for ---------------------------------------------------------------


def causes(run: Any) -> list[tuple[str, str]]:
    return [(a["attempt"], a["verdict"]["cause"]) for a in run["attempts"]]


def test_a_job_that_may_not_be_requeued_says_so(lab: Lab) -> None:
    source = folder(lab, "refused", GOES_ON + "raise SystemExit(42)\n")
    run = lab.wait(lab.submit(source, "--set", "requeue.allowed=false"))
    assert (run["status"], causes(run)) == ("Failed", [("1.0", "exit_code")])
    sentence = "the command asked for a requeue with exit code 42, and was not requeued: Slurm says"
    assert run["verdict"]["sentence"].startswith(sentence)
    assert "disabled" in run["verdict"]["sentence"]


def test_a_run_that_stops_for_the_time_limit_goes_on(lab: Lab) -> None:
    text = GOES_ON + "while first and not run.should_stop(): time.sleep(0.05)\n"
    source = folder(lab, "stops", text, "requeue: {at_time_limit: true}\n")
    run_id = lab.submit(source, *TWO_NODES)
    eventually(lambda: is_up(lab, run_id))
    job_id = lab.json("show", run_id)["job_id"]
    words = ["scancel", "--batch", "--signal=USR1", job_id]
    assert lab.cluster.run("alice", words).returncode == 0
    go_on(lab, job_id)
    run = lab.wait(run_id)
    assert causes(run) == [("1.0", "requeued"), ("1.1", "completed")], run
    sentence = run["attempts"][0]["verdict"]["sentence"]
    assert sentence == "the command stopped for the time limit"


def test_a_run_that_does_not_stop_is_ended_before_the_limit_and_goes_on(
    lab: Lab, near_limit: Mapping[str, str]
) -> None:
    run_id = near_limit["ended"]
    go_on(lab, lab.json("show", run_id)["job_id"])
    run = lab.wait(run_id)
    saved = Path(run["files"], "outputs").glob("saved-*")
    assert sorted(path.name for path in saved) == ["saved-0", "saved-1"]
    assert causes(run) == [("1.0", "requeued"), ("1.1", "completed")], run
    sentence = run["attempts"][0]["verdict"]["sentence"]
    assert sentence == "the command was ended for the time limit"


def test_all_attempts_together_take_no_more_than_they_may(lab: Lab) -> None:
    source = folder(lab, "duration", GOES_ON + "time.sleep(600)\n")
    run = lab.wait(lab.submit(source, *TWO_NODES, "--set", "max_run_duration_seconds=15"))
    assert (run["status"], causes(run)) == ("Failed", [("1.0", "time_limit")])
    sentence = "the run has taken its max_run_duration_seconds (15)"
    assert run["verdict"]["sentence"] == sentence
    refused = lab.run("resubmit", run["run_id"])
    assert refused.returncode == 3 and sentence in refused.stderr
