"""Runs of a cluster on a laptop's own disk: what comes, is read there, and what a cut leaves."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.campaign import Figures, seeded, times
from tests.far import Far
from tests.lab import Lab, eventually

pytestmark = pytest.mark.cluster

RUN_YAML = """\
script: train.py
compute_target: test-cluster
experiment: {experiment}
resources: {{time: 10m}}
"""

TRAIN = """\
import pathlib, random, sys, time
from hpcrun import Run

run = Run.get_context()
for step in range(5):
    run.log("loss", 1 / (step + 1), step=step)
run.log_table("table", {"x": [1, 2]})
with run.child_run("fold") as child:
    child.log("score", 7)
outputs = pathlib.Path("outputs")
(outputs / "deep").mkdir(parents=True)
(outputs / "deep/\\u00fcn\\u0131 code").write_text("deep")
(outputs / "large.bin").write_bytes(random.Random(3).randbytes(6 << 20))
(outputs / "latest.bin").symlink_to("large.bin")
(outputs / "outside").symlink_to("/etc/hostname")
print("trained", flush=True)
stop = pathlib.Path(sys.argv[1])
while not stop.exists():
    time.sleep(0.1)
    if stop.with_name("more").exists():
        run.log("late", 1)
        print("more", flush=True)
        stop.with_name("more").unlink()
"""

FILES = ["outputs/deep/ünı code", "outputs/large.bin", "outputs/latest.bin"]


@dataclass(frozen=True)
class Desk:
    """lena's workspace on the laptop."""

    far: Far

    @property
    def workspace(self) -> Path:
        return self.far.laptop.home / "history"

    @property
    def there(self) -> str:
        """The workspace on the cluster."""
        return f"far:{self.far.lab.workspace}"

    def run(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """hpcrun on the laptop, in its own workspace."""
        hpcrun = f"{self.far.lab.venv}/bin/hpcrun"
        return self.far.laptop.run([hpcrun, "-w", str(self.workspace), *words], **more)

    def json(self, *words: str) -> Any:
        command, *rest = words
        done = self.run(command, "--json", *rest)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def sync(self, *words: str) -> dict[str, str]:
        """run id → what became of it."""
        runs = self.json("sync", self.there, *words)["runs"]
        return {run["run_id"]: run["outcome"] for run in runs}

    def told(self, run_id: str) -> list[Any]:
        """What commands that read tell of a run here."""
        return _told(lambda *words: self.run(*words).stdout, run_id)

    def told_there(self, run_id: str) -> list[Any]:
        """The same there, by whoever works there."""
        return _told(lambda *words: self.far.lab.run(*words).stdout, run_id)


def _told(hpcrun: Any, run_id: str) -> list[Any]:
    run = json.loads(hpcrun("show", "--json", run_id))
    for key in ("record", "files", "imported", "user", "reason"):
        del run[key]
    metrics = hpcrun("metrics", "--json", run_id)
    files = json.loads(hpcrun("files", "--json", run_id))
    return [run, metrics, files, hpcrun("logs", run_id)]


@pytest.fixture
def desk(far: Far) -> Desk:
    return Desk(far)


class Made:
    """Runs of alice's: one that has ended, with a child, and one that goes on until `stop`."""

    def __init__(self, lab: Lab) -> None:
        self.experiment = f"sync-{os.urandom(4).hex()}"
        yaml = RUN_YAML.format(experiment=self.experiment)
        source = lab.folder("sync", {"run.yaml": yaml, "train.py": TRAIN, "now/stop": ""})
        self.stop = source / "stop"
        self.ended = lab.submit(source, "--", str(source / "now/stop"))
        self.live = lab.submit(source, "--", str(self.stop))
        assert lab.wait(self.ended)["status"] == "Completed"
        eventually(lambda: "trained" in lab.run("logs", self.live).stdout)
        eventually(lambda: len(lab.json("metrics", self.live)) == 2)
        (self.child,) = lab.json("show", self.ended)["children"]
        (self.other,) = eventually(lambda: lab.json("show", self.live)["children"])

    @property
    def all(self) -> set[str]:
        return {self.ended, self.child, self.live, self.other}


@pytest.fixture(scope="module")
def made(lab: Lab) -> Iterator[Made]:
    made = Made(lab)
    yield made
    made.stop.touch()


def test_a_mirror_tells_what_the_cluster_told(desk: Desk, made: Made) -> None:
    laptop, lab = desk.far.laptop, desk.far.lab
    assert desk.sync("-e", made.experiment, "--outputs", "*") == dict.fromkeys(made.all, "new")
    there = desk.told_there(made.ended)
    before = laptop.received() + laptop.sent()
    again = desk.sync("-e", made.experiment, "--outputs", "*")
    assert laptop.received() + laptop.sent() - before < 40_000
    assert again[made.ended] == again[made.child] == "same"
    laptop.link(False)
    assert desk.told(made.ended) == there
    found = {file["name"] for file in desk.json("files", made.ended)}
    assert {name for name in found if name.startswith("outputs/")} == set(FILES)
    copy = laptop.home / "copy.bin"
    assert desk.run("download", made.ended, "outputs/latest.bin", str(copy)).returncode == 0
    assert copy.read_bytes() == random.Random(3).randbytes(6 << 20)
    code = desk.json("snapshot", made.ended, "--restore", str(laptop.home / "code"))
    assert {file["path"] for file in code["files"]} == {"run.yaml", "train.py", "now/stop"}
    assert (laptop.home / "code/train.py").read_text() == TRAIN
    assert "code: the same" in desk.run("diff", made.ended, made.live).stdout
    assert {run["run_id"] for run in desk.json("list")} == {made.ended, made.live}
    assert "score" in desk.run("compare", made.child, made.other).stdout
    origin = desk.json("show", made.live)["imported"]
    assert (origin["user"], origin["workspace"], origin["mirror"]) == ("alice", desk.there, True)
    # What goes on with a run is done there.
    assert desk.json("show", made.live)["status"] == "Running"
    for words in (("cancel",), ("resubmit",), ("wait",), ("logs", "--follow"), ("shell",)):
        done = desk.run(*words, made.live)
        assert done.returncode == 7, (words, done.stdout, done.stderr)
        command = " ".join(("hpcrun", "-w", desk.there, *words, f"alice/{made.live}"))
        assert "as a mirror only (Running on " in done.stderr and command in done.stderr
    assert "trained" in desk.run("logs", made.live).stdout
    # It comes on by what is new, whatever is told of it here.
    tags = desk.run("archive", made.live)
    assert tags.returncode == 0
    laptop.link(True)
    (made.stop.with_name("more")).touch()
    eventually(lambda: "more" in lab.run("logs", made.live).stdout)
    eventually(lambda: "late" in lab.run("metrics", made.live).stdout)
    before = laptop.received()
    assert desk.sync(made.live, "--outputs", "*")[made.live] == "newer"
    assert laptop.received() - before < 200_000
    assert "more" in desk.run("logs", made.live).stdout
    assert "late" in desk.run("metrics", made.live).stdout
    assert desk.json("show", made.live)["archived"]
    checked = desk.run("store", "check")
    assert checked.returncode == 0, checked.stdout


CUT = """\
case "$*" in
*rsync*--server*)
    exec /usr/bin/ssh "$@" > >(
        dd bs=64k count={count} iflag=count_bytes status=none
        read -rN 1 && kill -9 $$  # there was more
    ) ;;
*) exec /usr/bin/ssh "$@" ;;
esac
"""


def test_a_cut_anywhere_leaves_what_can_be_read(desk: Desk, made: Made, figures: Figures) -> None:
    hpcrun = f"{desk.far.lab.venv}/bin/hpcrun"
    words = [hpcrun, "-w", str(desk.workspace), "sync", desk.there, made.ended, "--outputs", "*"]
    there = desk.told_there(made.ended)
    cuts = readable = 0
    for number, rng in enumerate(seeded("sync", times(100, 2))):
        count = rng.randint(1 << 18, 6 << 20) if number % 2 else rng.randint(0, 20_000)
        cut = desk.far.laptop.run(words, env=desk.far.in_front_of_ssh(CUT.format(count=count)))
        assert cut.returncode == 6 and "was lost while" in cut.stderr, (count, cut)
        cuts += 1
        listed = desk.run("list", "--json")
        assert (listed.returncode, listed.stderr) == (0, "")
        if made.ended in listed.stdout:
            readable += 1
            run, metrics, files, _ = desk.told(made.ended)
            assert [run, metrics] == there[:2]
            assert [file for file in files if file not in there[2]] == []  # whole, or not there
        assert set(desk.sync(made.ended, "--outputs", "*")) == {made.ended, made.child}
        assert desk.told(made.ended) == there
        assert not list(desk.workspace.glob("users/lena/mirrors/*.arriving"))
        shutil.rmtree(desk.workspace)
    figures.tell("sync cut at a byte", cuts=cuts, with_a_record_by_then=readable, lost=0)


def test_two_at_once_do_no_harm(desk: Desk, made: Made) -> None:
    hpcrun = f"{desk.far.lab.venv}/bin/hpcrun"
    words = [hpcrun, "-w", str(desk.workspace), "sync", desk.there, made.ended, "--outputs", "*"]
    with desk.far.laptop.popen(words) as one, desk.far.laptop.popen(words) as other:
        for each in (one, other):
            _, err = each.communicate(timeout=90)
            assert each.returncode == 0, err
            assert err in ("", "hpcrun: waiting for another process that does the same\n")
    assert desk.told(made.ended) == desk.told_there(made.ended)
