"""Runs of a cluster on a laptop's own disk: what comes, is read there, and what a cut leaves."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.campaign import Figures, seeded, times
from tests.far import Far
from tests.lab import WAITING, Lab, eventually

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
    workspace: Path

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
    run = common(json.loads(hpcrun("show", "--json", run_id)))
    metrics = json.loads(hpcrun("metrics", "--json", run_id))
    files = json.loads(hpcrun("files", "--json", run_id))
    return [run, metrics, files, hpcrun("logs", run_id)]


def common(run: Any) -> Any:
    """What is the same of a run and its mirror."""
    own = ("record", "files", "imported", "user", "reason")
    return {key: value for key, value in run.items() if key not in own}


@pytest.fixture
def desk(far: Far) -> Desk:
    return Desk(far, far.laptop.home / "history")


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
    laptop, lab, logins = desk.far.laptop, desk.far.lab, desk.far.logins()
    assert desk.sync("-e", made.experiment, "--outputs", "*") == dict.fromkeys(made.all, "new")
    assert desk.far.logins() == logins + 4  # of a site that shares none: records, sources, files
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
    closed = Path(lab.json("show", made.ended)["files"], "outputs/latest.bin")  # a link to a file
    closed.chmod(0)
    told = desk.run("sync", desk.there, made.ended, "--outputs", "*")
    some = rf"run {made.ended}: 2 of \d+ files that are wanted cannot be read there"
    assert re.search(some, told.stderr), told.stderr
    closed.chmod(0o644)


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


# Looks at the newest workspace below a folder, once or all the while: by the commands, without
# their start.
WATCH = """\
import contextlib, io, json, sys, time
from pathlib import Path
from hpcrun.cli.main import cli
from hpcrun.errors import HpcrunError

above, run_id, once = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]

def said(*words):
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with contextlib.redirect_stdout(out):
        cli.main(["-w", str(workspace), *words], standalone_mode=False)
    return json.loads(out.buffer.getvalue())

while not (above / "enough").exists():
    workspace = max(above.glob("[0-9]*"), default=None)
    try:
        if workspace is not None and run_id in {run["run_id"] for run in said("list", "--json")}:
            look = [said(name, "--json", run_id) for name in ("show", "metrics", "files")]
            try:
                look.append(said("logs", "--json", run_id)["text"])
            except HpcrunError as error:
                if "has not come here from far:" not in str(error):
                    raise
            print(json.dumps(look), flush=True)
    except HpcrunError as error:
        print(json.dumps(str(error)), flush=True)
    if once:
        break
    time.sleep(0.2)
"""


@contextlib.contextmanager
def watched(desk: Desk, above: Path, run_id: str, there: list[Any]) -> Iterator[list[Any]]:
    """Somebody looks at a run in the newest workspace below a folder; gives what was seen so far,
    each of it whole."""
    seen: list[Any] = []
    out = above / "seen"
    words = [desk.far.lab.python, "-c", WATCH, str(above), run_id]
    with out.open("w") as to, desk.far.laptop.popen(words, stdout=to) as watcher:
        try:
            yield seen
        finally:
            (above / "enough").touch()
            _, err = watcher.communicate(timeout=180)
        assert watcher.returncode == 0, err
    seen += [checked(line, there) for line in out.read_text().splitlines()]


def checked(line: str, there: list[Any]) -> list[Any]:
    """What was seen of a run, of which all that was there is whole."""
    look = json.loads(line)
    assert isinstance(look, list), look
    run, metrics, files, *output = look
    assert [common(run), metrics] == there[:2]
    assert [file for file in files if file not in there[2]] == []  # whole, or not there
    assert not output or output == there[3:]
    return [common(run), *look[1:]]


@pytest.mark.campaign
def test_a_cut_anywhere_leaves_what_can_be_read(desk: Desk, made: Made, figures: Figures) -> None:
    far, there = desk.far, desk.told_there(made.ended)
    above = far.project("mirrors", {"none": ""})
    look = [far.lab.python, "-c", WATCH, str(above), made.ended, "once"]
    cuts = readable = 0
    with watched(desk, above, made.ended, there) as seen:
        for number, rng in enumerate(seeded("sync", times(100, 2))):
            own = Desk(far, above / f"{number:03}")
            words = ["sync", desk.there, made.ended, "--outputs", "*"]
            count = rng.randint(1 << 18, 6 << 20) if number % 2 else rng.randint(0, 20_000)
            cut = own.run(*words, env=far.in_front_of_ssh(CUT.format(count=count)))
            assert cut.returncode == 6 and "was lost while" in cut.stderr, (count, cut)
            cuts += 1
            for line in far.laptop.run(look).stdout.splitlines():
                checked(line, there)
                readable += 1
            assert set(own.sync(made.ended, "--outputs", "*")) == {made.ended, made.child}
            assert checked(far.laptop.run(look).stdout, there) == there
            assert not list(own.workspace.glob("users/lena/mirrors/*.arriving"))
    looks = len(seen)
    assert looks >= cuts
    figures.tell("sync cut at a byte", cuts=cuts, record_by_then=readable, looks=looks, lost=0)


@pytest.mark.campaign
def test_a_full_disk_here_is_told_and_the_next_sync_goes_on(
    desk: Desk, made: Made, figures: Figures
) -> None:
    far, there = desk.far, desk.told_there(made.ended)
    full = readable = 0
    for number, rng in enumerate(seeded("sync into a full disk", times(30, 2))):
        size = rng.randrange(4 << 10, 400 << 10) if number % 2 else rng.randrange(1 << 20, 12 << 20)
        with far.laptop.small_disk(size, here=True) as small:
            own = Desk(far, small / "0")
            look = [far.lab.python, "-c", WATCH, str(small), made.ended, "once"]
            done = own.run("sync", desk.there, made.ended, "--outputs", "*")
            assert done.returncode == 8, (size, done)
            assert "No space left on device" in done.stderr and "free space" in done.stderr, done
            full += 1
            for line in far.laptop.run(look).stdout.splitlines():
                checked(line, there)
                readable += 1
            far.laptop.enlarge_disk(32 << 20)
            assert set(own.sync(made.ended, "--outputs", "*")) == {made.ended, made.child}
            assert checked(far.laptop.run(look).stdout, there) == there
    figures.tell("sync into a disk that is full", full=full, record_by_then=readable, lost=0)


def test_two_at_once_do_no_harm(desk: Desk, made: Made) -> None:
    hpcrun = f"{desk.far.lab.venv}/bin/hpcrun"
    words = [hpcrun, "-w", str(desk.workspace), "sync", desk.there, made.ended, "--outputs", "*"]
    with desk.far.laptop.popen(words) as one, desk.far.laptop.popen(words) as other:
        for each in (one, other):
            _, err = each.communicate(timeout=180)
            assert each.returncode == 0, err
            said = [line for line in err.splitlines() if not line.startswith(WAITING)]
            assert said in ([], ["hpcrun: waiting for another process that does the same"])
    assert desk.told(made.ended) == desk.told_there(made.ended)
