"""Data that is brought to two nodes and from them, on the real cluster."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab, eventually
from tests.trees import tree

pytestmark = pytest.mark.cluster

SITE = """\
schema_version: 1
id: test-cluster
inherits: [test-cluster]
storage: {{node_tmp: {node_tmp}, data: {{shared: {shared}}}}}
"""

RUN_YAML = """\
script: train.py
arguments: ["${{inputs.images}}", "${{outputs.made}}"]
compute_target: test-cluster
experiment: data
inputs:
  images: {path: shared/my images, mode: stage}
  packed: {path: shared/packed.tar.gz, mode: unpack}
outputs:
  made: shared/made
distributed_job_config: {kind: mpi, node_count: 2, process_count_per_node: 2}
resources: {time: 10m}
"""

TRAIN = """\
import os, sys, time
images, made = sys.argv[1:]
assert images == os.environ["HPCRUN_INPUT_IMAGES"]
text = open(images + "/a").read()
assert text == open(os.environ["HPCRUN_INPUT_PACKED"] + "/within/b").read()
host = os.uname().nodename
open(f"{made}/{os.environ['RANK']}-{host}", "w").write(text)
open(f"{made}/same", "w").write(host)
print("ready", flush=True)
while not os.path.exists(os.environ["HPCRUN_FILES"] + "/go"):
    time.sleep(0.1)
open(f"{made}/late-{host}", "w").write(os.environ["HPCRUN_ATTEMPT"])
"""


class Place:
    """A folder of alice's with shared data, and nodes that hold little."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.shared = lab.folder(f"{name}-shared", {"my images/a": "image", "made/.keep": ""})
        with tarfile.open(self.shared / "packed.tar.gz", "w:gz") as packed:
            packed.add(self.shared / "my images/a", "within/b")
        site = SITE.format(node_tmp="/tmp/little", shared=self.shared)
        files = {"run.yaml": RUN_YAML, "train.py": TRAIN, ".hpcrun/config.json": "{}"}
        files[".hpcrun/site_configs/test-cluster.yaml"] = site
        self.source = lab.folder(name, files)

    def submit(self, *words: str) -> Any:
        return self.lab.json("submit", *words, cwd=self.source)

    def run(self, *words: str) -> Any:
        return self.lab.json(*words, cwd=self.source)

    def is_ready(self, run: Any) -> bool:
        logs = Path(run["files"], "user_logs/1.0")
        return all(
            log.exists() and "ready" in log.read_text()
            for log in (logs / f"rank-{rank}.log" for rank in range(4))
        )

    def wait(self, run: Any) -> Any:
        return self.lab.wait(run["run_id"], cwd=self.source)

    def made(self) -> dict[str, str]:
        found = tree(self.shared / "made")
        return {
            name: content.decode()
            for name, content in found.items()
            if isinstance(content, bytes) and name != ".keep" and not name.startswith(".hpcrun/")
        }

    def left_on(self, node: str) -> list[str]:
        words = ["find", "/tmp/little", "-path", "*-data-*", "-type", "f"]
        return self.lab.cluster.run("root", words, node=node).stdout.split()


@pytest.fixture
def place(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Place]:
    for node, size in (("n1", "200m"), ("n2", "100m")):
        room = f"mkdir -p /tmp/little && mount -t tmpfs -o size={size},mode=1777 none /tmp/little"
        done = lab.cluster.run("root", ["sh", "-c", room], node=node)
        assert done.returncode == 0, done.stderr
    yield Place(lab, request.node.name.replace("_", "-"))
    lab.cluster.drop_jobs()
    for node in ("n1", "n2"):
        lab.cluster.run("root", ["umount", "-l", "/tmp/little"], node=node)


BOTH = {f"{rank}-n{1 + rank // 2}": "image" for rank in range(4)}


def test_each_node_has_the_data_and_brings_what_it_made(place: Place) -> None:
    run = place.submit()
    eventually(lambda: place.is_ready(run))
    # Once on each node, whatever the ranks are.
    assert [len([f for f in place.left_on(n) if f.endswith("/a")]) for n in ("n1", "n2")] == [1, 1]
    Path(run["files"], "go").touch()
    told = place.wait(run)
    assert told["status"] == "Completed", told
    late = {f"late-{host}": "1.0" for host in ("n1", "n2")}
    assert place.made() == BOTH | late | {"same": "n1", ".nodes/n2/same": "n2"}
    assert any(".nodes/n2/same" in problem for problem in told["problems"])
    (attempt,) = told["attempts"]
    known = [(d["name"], d["host"], d["files"], d["complete"]) for d in attempt["data"]]
    assert known == [
        ("images", "n1", 1, True),
        ("images", "n2", 1, True),
        ("packed", "n1", 1, True),
        ("packed", "n2", 1, True),
        ("made", "n1", 4, True),
        ("made", "n2", 4, True),
    ]
    assert place.left_on("n1") == place.left_on("n2") == []


def test_one_node_without_room_fails_the_launch_with_both_numbers(place: Place) -> None:
    with (place.shared / "my images/a").open("r+b") as file:
        file.truncate(150_000_000)
    run = place.wait(place.submit())
    verdict = run["verdict"]
    assert verdict["cause"] == "launch_failed"
    assert "n2: the inputs images, packed have 150000" in verdict["sentence"]
    assert not any(Path(run["files"], "user_logs/1.0").glob("rank-*"))


def test_a_disk_that_fills_up_meanwhile_fails_the_launch(place: Place) -> None:
    """There are bytes, and no more inodes: only a copy finds out."""
    words = ["mount", "-o", "remount,nr_inodes=40", "/tmp/little"]
    assert place.lab.cluster.run("root", words, node="n2").returncode == 0
    for number in range(60):
        (place.shared / f"my images/{number}").write_text("x")
    verdict = place.wait(place.submit())["verdict"]
    assert verdict["cause"] == "launch_failed"
    assert "n2: input images: " in verdict["sentence"]
    assert "no room" in verdict["sentence"]


def test_a_warning_brings_what_is_there_and_collect_what_a_kill_left(place: Place) -> None:
    run = place.submit()
    eventually(lambda: place.is_ready(run))
    words = ["scancel", "--batch", "--signal=USR1", run["job_id"]]
    place.lab.cluster.run("alice", words)
    eventually(lambda: place.made().keys() >= FIRST_BROUGHT)
    marks = place.shared / "made/.hpcrun"
    host, other = (marks / f"{run['run_id']}.{node}.json" for node in ("n1", "n2"))
    assert not json.loads(host.read_text())["complete"]
    place.lab.cluster.run("root", ["scancel", "--full", "--signal=KILL", run["job_id"]])
    assert place.wait(run)["status"] in ("Failed", "Canceled")
    collected = place.run("collect", run["run_id"])
    assert collected["attempts"][0]["undrained"] == [], collected["collected"]
    assert json.loads(host.read_text())["complete"] and json.loads(other.read_text())["complete"]
    assert place.left_on("n1") == place.left_on("n2") == []
    assert {Path(name).name for name in place.made()} >= {*BOTH, "same"}


FIRST_BROUGHT = {"0-n1", "1-n1", "same", *(f".nodes/n2/{n}" for n in ("2-n2", "3-n2", "same"))}
