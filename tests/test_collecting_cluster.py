"""Jobs that work on their nodes' own disks, on the real cluster: each node has its own /tmp."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab, eventually, go_on
from tests.test_kills import ended, processes_of

pytestmark = pytest.mark.cluster

RUN_YAML = """\
script: train.py
compute_target: test-cluster
experiment: collecting
working_directory: node
resources: {time: 10m}
"""

TWO = ("--set", "distributed_job_config={kind: mpi, node_count: 2}")

SAME_NAMES = """\
import os, time
host, rank = os.uname().nodename, os.environ["RANK"]
assert os.getcwd().startswith("/tmp/hpcrun-"), os.getcwd()
open("outputs/model.txt", "w").write(host)
os.makedirs("outputs/shards", exist_ok=True)
open(f"outputs/shards/{rank}.txt", "w").write(host)
open("logs/train.log", "w").write(f"{host}\\n")
print(rank, flush=True)
while not os.path.exists(os.environ["HPCRUN_FILES"] + "/go"):
    time.sleep(0.1)
"""


def submitted(lab: Lab, name: str, text: str, *words: str) -> Any:
    source = lab.folder(name, {"run.yaml": RUN_YAML, "train.py": text})
    return lab.json("submit", *words, cwd=source)


def names(lab: Lab, run_id: str) -> list[str]:
    """The names of its files, but for standard output."""
    found = [file["name"] for file in lab.json("files", run_id)]
    return [name for name in found if not name.startswith("user_logs/")]


def left_on(lab: Lab, node: str, run_id: str) -> list[str]:
    """What stands in a node's /tmp of a run."""
    told = lab.cluster.run("root", ["ls", "/tmp"], node=node).stdout.split()
    return [name for name in told if run_id.rpartition("_")[2] in name]


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_equal_names_of_two_nodes_are_kept_apart_and_said_so(lab: Lab, launcher: str) -> None:
    more = ("--set", f"distributed_job_config.launcher={launcher}")
    run = submitted(lab, f"same-names-{launcher}", SAME_NAMES, *TWO, *more)
    run_id = run["run_id"]
    # All of it is there while the job goes on.
    eventually(lambda: "outputs/shards/1.txt" in names(lab, run_id))
    eventually(lambda: "outputs/model.txt" in names(lab, run_id))
    assert lab.json("show", run_id)["status"] == "Running"
    (Path(run["files"]) / "go").touch()
    run = lab.wait(run_id)
    assert run["status"] == "Completed", run
    first, second = run["attempts"][0]["nodes"]
    files = Path(run["files"])
    assert names(lab, run_id) == [
        f"logs/.nodes/{second}/train.log",
        "logs/train.log",
        f"outputs/.nodes/{second}/model.txt",
        "outputs/model.txt",
        "outputs/shards/0.txt",
        "outputs/shards/1.txt",
    ]
    assert (files / "outputs/model.txt").read_text() == first
    assert (files / f"outputs/.nodes/{second}/model.txt").read_text() == second
    assert [(files / f"outputs/shards/{n}.txt").read_text() for n in (0, 1)] == [first, second]
    told = [text for text in run["problems"] if "another node has a file of this name" in text]
    assert sorted(text.partition(": ")[2].partition(",")[0] for text in told) == [
        "logs/train.log",
        "outputs/model.txt",
    ]
    assert run["attempts"][0]["undrained"] == []
    assert [left_on(lab, node, run_id) for node in (first, second)] == [[], []]


ODD = """\
import os
os.mkfifo("outputs/pipe")
open("outputs/hidden", "w").write("x")
os.chmod("outputs/hidden", 0)
os.symlink("/etc/passwd", "outputs/outside")
os.symlink("many/7.json", "outputs/inside")
os.mkdir("outputs/many")
for number in range(20000):
    with open(f"outputs/many/{number}.json", "w") as file:
        file.write(str(number))
with open("outputs/sparse.bin", "wb") as file:
    file.truncate(50 * 2**30)
    file.seek(20 * 2**30)
    file.write(b"data")
"""


def test_odd_huge_and_many_files(lab: Lab, tmp_path: Path) -> None:
    run = submitted(lab, "odd", ODD)
    run_id = run["run_id"]
    run = lab.wait(run_id)
    assert run["status"] == "Completed", run
    (node,) = run["attempts"][0]["nodes"]
    found = names(lab, run_id)
    assert len(found) == 20000 + 2
    assert {"outputs/inside", "outputs/sparse.bin", "outputs/many/19999.json"} <= set(found)
    entries = sum(len(inside) + len(files) for _, inside, files in os.walk(run["files"]))
    assert entries < 20000 + 20
    sparse = Path(run["files"], "outputs/sparse.bin").stat()
    assert (sparse.st_size, sparse.st_blocks < 1000) == (50 * 2**30, True)
    said = "\n".join(run["problems"])
    assert "it is a pipe: outputs/pipe" in said
    assert "cannot be read: Permission denied: outputs/hidden" in said
    assert "outside of outputs/ and logs/: outputs/outside" in said
    # What its own user had closed stays on the node, and is told.
    (left,) = run["attempts"][0]["uncollected"]
    assert (left["host"], left["files"], left["bytes"]) == (node, 1, 1)
    assert left_on(lab, node, run_id) == [Path(left["where"]).name]
    home = lab.cluster.home("alice") / "work"
    lab.ok("download", run_id, "outputs/sparse.bin", str(home / "sparse.bin"))
    copy = (home / "sparse.bin").stat()
    assert (copy.st_size, copy.st_blocks < 1000) == (50 * 2**30, True)
    (home / "sparse.bin").unlink()
    opened = lab.cluster.run("root", ["chmod", "600", f"{left['where']}/outputs/hidden"], node=node)
    assert opened.returncode == 0, opened.stderr
    lab.ok("collect", run_id)
    assert Path(run["files"], "outputs/hidden").read_text() == "x"
    assert left_on(lab, node, run_id) == []
    assert lab.json("show", run_id)["attempts"][0]["uncollected"] == []


LATE = SAME_NAMES.replace("while not", "open(f'outputs/ready{rank}', 'w')\nwhile not")


def test_what_a_killed_job_left_on_its_nodes_is_collected(lab: Lab) -> None:
    run = submitted(lab, "killed", LATE, *TWO)
    run_id = run["run_id"]
    run = eventually(lambda: (r := lab.json("show", run_id))["status"] == "Running" and r)
    nodes = run["attempts"][0]["nodes"]

    def ready() -> bool:
        words = ["sh", "-c", "ls /tmp/hpcrun-*-work-*/outputs/ready*"]
        return all(lab.cluster.run("root", words, node=n).returncode == 0 for n in nodes)

    eventually(ready)
    for pid in processes_of(run_id):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run = eventually(lambda: ended(lab, run_id))
    said = lab.ok("collect", run_id)
    run = lab.json("show", run_id)
    assert run["attempts"][0]["undrained"] == [], said
    first, second = nodes
    files = Path(run["files"])
    assert (files / "outputs/model.txt").read_text() == first
    assert (files / f"outputs/.nodes/{second}/model.txt").read_text() == second
    assert {"outputs/ready0", "outputs/ready1"} <= set(names(lab, run_id))
    assert [left_on(lab, node, run_id) for node in nodes] == [[], []]


def test_a_requeued_job_finds_its_checkpoint(lab: Lab) -> None:
    text = (
        "import os, time\n"
        "if os.path.exists('outputs/checkpoint'):\n"
        "    print('resumed', open('outputs/checkpoint').read(), flush=True)\n"
        "    raise SystemExit\n"
        "open('outputs/checkpoint', 'w').write('step 7')\n"
        "time.sleep(300)\n"
    )
    run = submitted(lab, "resumed", text)
    run_id = run["run_id"]
    eventually(lambda: "outputs/checkpoint" in names(lab, run_id))
    job_id = lab.json("show", run_id)["job_id"]
    assert lab.cluster.run("alice", ["scontrol", "requeue", job_id]).returncode == 0
    go_on(lab, job_id)
    run = lab.wait(run_id)
    assert run["status"] == "Completed", run
    assert lab.ok("logs", run_id).splitlines()[-1] == "resumed step 7"
    assert Path(run["files"], "outputs/checkpoint").read_text() == "step 7"


def test_a_cancelled_job_brings_what_it_can(lab: Lab) -> None:
    text = (
        "import signal, sys, time\n"
        "def stop(*_):\n"
        "    open('outputs/last', 'w').write('checkpoint')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "open('outputs/up', 'w')\n"
        "while True: time.sleep(0.05)\n"
    )
    run = submitted(lab, "cancelled", text)
    run_id = run["run_id"]
    eventually(lambda: "outputs/up" in names(lab, run_id))
    lab.ok("cancel", run_id)
    run = lab.wait(run_id)
    assert run["status"] == "Canceled"
    assert Path(run["files"], "outputs/last").read_text() == "checkpoint"
    assert left_on(lab, run["attempts"][0]["nodes"][0], run_id) == []


def test_scratch_is_shared_by_all_nodes(lab: Lab) -> None:
    scratch = lab.cluster.shared / "scratch"
    scratch.mkdir(exist_ok=True)
    scratch.chmod(0o1777)
    site = (Path(__file__).parents[1] / "site_configs/test-cluster.yaml").read_text()
    site += f"storage: {{scratch: {scratch}/$USER}}\n"
    text = SAME_NAMES.replace("/tmp/hpcrun-", f"{scratch}/alice/hpcrun-")
    yaml = RUN_YAML.replace("working_directory: node", "working_directory: scratch")
    files = {"run.yaml": yaml, "train.py": text, ".hpcrun/site_configs/test-cluster.yaml": site}
    source = lab.folder("scratch", files)
    run = lab.json("submit", *TWO, cwd=source, env={"USER": "alice"})
    (Path(run["files"]) / "go").touch()
    run = lab.wait(run["run_id"])
    assert run["status"] == "Completed", run
    assert names(lab, run["run_id"]) == [
        "logs/train.log",
        "outputs/model.txt",
        "outputs/shards/0.txt",
        "outputs/shards/1.txt",
    ]
    assert list((scratch / "alice").iterdir()) == []
