"""The run history's file system, full, read-only, frozen, or lost and mounted again, under runs.

Ten runs on two nodes log all the while, each node through a network mount of its own. What they
were told is done they write down themselves, on a file system that nothing happens to.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hpcrun.errors import StoreError
from tests.campaign import Figures, times
from tests.cluster import Cluster
from tests.cluster.hosts import view
from tests.cluster.processes import pid
from tests.lab import Lab, eventually
from tests.submission import Place, make_place

pytestmark = [pytest.mark.cluster, pytest.mark.campaign]

NODES = ("n1", "n2")
HOSTS = ("login", *NODES)
RUNS = 10

FROZEN = times(30, 4)
"""Seconds for which the file system answers nobody."""

POINTS = 20
"""Points that each run logs while the file system fails, at least."""

TRAIN = """\
import os, random, sys, time
from hpcrun import Run

folder, seed = sys.argv[1], sys.argv[2]
run, chance = Run.get_context(), random.Random(seed)
ledger = os.open(os.path.join(folder, run.id), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def told(*words):
    os.write(ledger, (" ".join(map(str, words)) + "\\n").encode())


def is_there(name):
    return os.path.exists(os.path.join(folder, name))


step, stormy, last = 0, False, time.time()
while not is_there("end"):
    run.log("loss", step, step=step)
    now = time.time()
    told("point", step, now, now - last)
    if stormy != is_there("storm"):
        stormy = not stormy
        told("quiet" if stormy else "calm")
    if not stormy:
        print("line", step, flush=True)
        told("line", step)
        if step % 5 == 0:
            with open("outputs/%d" % step, "w") as file:
                file.write(str(step))
            told("file", step)
    pause = chance.uniform(0.01, 0.09)
    last = time.time() + pause
    time.sleep(pause)
    step += 1
"""

# Many runs from one process: (experiment, folder) → the ids.
SUBMIT = """\
import sys
from hpcrun import Experiment, ScriptRunConfig, Workspace

experiment = Experiment(Workspace.from_config(), sys.argv[1])
for number in range(int(sys.argv[3])):
    arguments = [sys.argv[2], number]
    src = ScriptRunConfig(source_directory=".", script="train.py", arguments=arguments)
    src.run_config.target = "test-cluster"
    src.run_config.sbatch = {"nodelist": "n%d" % (number % 2 + 1)}
    experiment.submit(src)
"""


@dataclass(frozen=True)
class Storm:
    """Ten runs on two nodes, and what they have written down."""

    place: Place

    @property
    def cluster(self) -> Cluster:
        return self.place.lab.cluster

    @property
    def served(self) -> Path:
        """The file system itself."""
        return view(self.cluster.layout, "login", self.cluster.layout.served)

    def begin(self) -> None:
        """Submits the runs, and waits until each has logged, printed and written files."""
        place = self.place
        words = [place.lab.python, "-c", SUBMIT, place.experiment, str(place.source / "ran")]
        env = place.environment()
        done = self.cluster.run("alice", [*words, str(RUNS)], cwd=place.source, env=env)
        assert done.returncode == 0, done.stderr
        eventually(lambda: all(self.has_begun(name) for name in place.names()), 180)
        assert len(place.names()) == RUNS

    def has_begun(self, run_id: str) -> bool:
        """Whether it has written a file, and what it logged came to the history."""
        return len(self.of(run_id, "file")) > 1 and bool(self.place.points(run_id))

    def of(self, run_id: str, word: str) -> list[list[str]]:
        """What a run has told of one kind."""
        path = self.place.source / "ran" / run_id
        lines = path.read_text().splitlines() if path.exists() else []
        return [told for line in lines if (told := line.split())[0] == word]

    def more(self, word: str, count: int) -> None:
        """Waits until each run has told so much more of a kind."""
        before = {name: len(self.of(name, word)) for name in self.place.names()}
        eventually(lambda: all(len(self.of(n, word)) >= b + count for n, b in before.items()))

    @contextlib.contextmanager
    def announced(self) -> Iterator[None]:
        """The runs only log, and neither print nor write files."""
        storm = self.place.source / "ran" / "storm"
        storm.touch()
        eventually(lambda: all(self.last_is_quiet(name) for name in self.place.names()))
        try:
            yield
        finally:
            storm.unlink()

    def last_is_quiet(self, run_id: str) -> bool:
        return len(self.of(run_id, "quiet")) > len(self.of(run_id, "calm"))

    def end(self) -> Mapping[str, object]:
        """Ends the runs; gives them by their ids, as the history tells of them."""
        (self.place.source / "ran" / "end").touch()

        def look() -> Mapping[str, object] | None:
            runs = self.place.runs()
            return runs if all(run["verdict"] for run in runs.values()) else None

        found: Mapping[str, object] = eventually(look, 120)
        return found

    def longest(self, begin: float, end: float) -> float:
        """Seconds of the longest step of all runs between two moments, its own pause left out."""
        points = [told for name in self.place.names() for told in self.of(name, "point")]
        return max(float(took) for _, _, when, took in points if begin <= float(when) <= end)

    def looks(self, run_id: str) -> Sequence[tuple[int, str, str]]:
        """What list, show, logs and metrics say."""
        words = (["list", "-n", "0"], ["show", run_id], ["logs", run_id], ["metrics", run_id])
        clients = [self.place.start(*each) for each in words]
        said = [client.communicate(timeout=120) for client in clients]
        return [(c.returncode, *words) for c, words in zip(clients, said, strict=True)]

    def has_its_lines(self, run_id: str) -> bool:
        """Whether what a run has printed has left its node."""
        log = self.log(run_id)
        lines = log.read_text().splitlines() if log.exists() else []
        return {f"line {step}" for _, step in self.of(run_id, "line")} <= set(lines)

    def log(self, run_id: str) -> Path:
        """The log of a run's only rank."""
        assert self.place.seen is not None
        (found,) = self.place.seen.glob(f"users/alice/files/*/{run_id}")
        return found / "user_logs/1.0/rank-0.log"

    def is_all_there(self, run: object) -> tuple[int, int, int]:
        """Of one run: the points, lines and files that it was told are done; all are there."""
        assert isinstance(run, dict)
        run_id, log = run["run_id"], self.log(run["run_id"])
        assert (run["status"], run["verdict"]["cause"]) == ("Completed", "completed"), run
        assert (run["lost_records"], run["bad_lines"]) == (0, 0), run
        points = [int(step) for _, step, *_ in self.of(run_id, "point")]
        assert self.place.points(run_id) == points == list(range(len(points)))
        lines = {f"line {step}" for _, step in self.of(run_id, "line")}
        assert lines <= set(log.read_text().splitlines())
        names = [step for _, step in self.of(run_id, "file")]
        outputs = log.parents[2] / "outputs"
        assert [(outputs / name).read_text() for name in names] == names
        return len(points), len(lines), len(names)


@pytest.fixture
def storm(lab: Lab, network: Path, request: pytest.FixtureRequest) -> Iterator[Storm]:
    with make_place(lab, request.node.name) as place:
        (place.source / "train.py").write_text(TRAIN)
        served = view(lab.cluster.layout, "login", lab.cluster.layout.served)
        workspace = network / place.experiment
        assert lab.cluster.run("alice", ["mkdir", str(workspace)]).returncode == 0
        storm = Storm(replace(place, workspace=workspace, seen=served / workspace.name))
        storm.begin()
        try:
            yield storm
        finally:
            (place.source / "ran" / "end").touch()
    lab.cluster.run("alice", ["rm", "-rf", str(workspace)])


# -- ways to fail -------------------------------------------------------------------------------


@contextlib.contextmanager
def full(storm: Storm) -> Iterator[Callable[[], None]]:
    """It has no room, until that is called."""
    folder = os.open(storm.served, os.O_RDONLY)
    with (storm.served / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))

    def free() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink("filler", dir_fd=folder)

    try:
        yield free
    finally:
        free()
        os.close(folder)


@contextlib.contextmanager
def read_only(storm: Storm) -> Iterator[None]:
    """What is opened from now on takes nothing. (While a file is open to be written to, the kernel
    makes no mount read-only: another one is laid over it.)"""
    served = str(storm.cluster.layout.served)

    def call(*words: str) -> None:
        done = storm.cluster.run("root", words)
        assert done.returncode == 0, done.stderr

    call("mount", "--bind", served, served)
    try:
        call("mount", "-o", "remount,ro,bind", served)
        yield
    finally:
        call("umount", "--lazy", served)


@contextlib.contextmanager
def frozen(storm: Storm) -> Iterator[None]:
    """Each host's mount answers nobody."""
    clients = mounts(storm)
    for client in clients:
        os.kill(client, signal.SIGSTOP)
    try:
        yield
    finally:
        for client in clients:
            os.kill(client, signal.SIGCONT)


@contextlib.contextmanager
def lost(storm: Storm) -> Iterator[None]:
    """Each host's mount is gone; then there is a new one."""
    for client in mounts(storm):
        os.kill(client, signal.SIGKILL)
    try:
        yield
    finally:
        storm.cluster.mount_network(*HOSTS)


def mounts(storm: Storm) -> list[int]:
    """The processes that serve the mounts of all hosts."""
    found = [pid(storm.cluster.layout, f"fuse-{host}") for host in HOSTS]
    return [client for client in found if client is not None]


# -- the faults ---------------------------------------------------------------------------------


def test_a_store_that_is_full_then_read_only_then_frozen_then_lost(
    storm: Storm, figures: Figures
) -> None:
    run_id = storm.place.names()[0]
    longest = {"calm": storm.longest(0, time.time())}
    with storm.announced():
        begin = time.time()
        with full(storm) as free:
            storm.more("point", POINTS)
            tell_the_truth(storm.looks(run_id), run_id)
            longest["full"] = storm.longest(begin, time.time())
            begin = time.time()
            with read_only(storm):
                free()
                storm.more("point", POINTS)
                tell_the_truth(storm.looks(run_id), run_id)
        longest["read_only"] = storm.longest(begin, time.time())
        storm.more("point", POINTS)
        begin = time.time()
        with frozen(storm):
            clients = [storm.place.start(*words) for words in (["list"], ["show", run_id])]
            while time.time() < begin + FROZEN:
                storm.more("point", POINTS)
        longest["frozen"] = storm.longest(begin, time.time())
        for client in clients:
            output, error = client.communicate(timeout=180)
            assert client.returncode == 0 and run_id in output and "Running" in output, error
    storm.more("file", 1)
    with storm.announced():
        eventually(lambda: all(map(storm.has_its_lines, storm.place.names())))
        begin = time.time()
        with lost(storm):
            storm.more("point", POINTS)
            for code, output, error in storm.looks(run_id):
                assert code == StoreError.exit_code and output == ""
                (line,) = error.splitlines()
                assert "Transport endpoint is not connected" in line
        storm.more("point", POINTS)
        longest["lost"] = storm.longest(begin, time.time())
        tell_the_truth(storm.looks(run_id), run_id)
        counts = [storm.is_all_there(run) for run in storm.end().values()]
    points, lines, files = (sum(each) for each in zip(*counts, strict=True))
    figures.tell("store fails", runs=len(counts), points=points, lines=lines, files=files, lost=0)
    steps = {name: f"{1000 * seconds:.0f} ms" for name, seconds in longest.items()}
    figures.tell("longest step of the training", **steps)


def tell_the_truth(looks: Sequence[tuple[int, str, str]], run_id: str) -> None:
    listing, shown, logs, metrics = looks
    for code, _, error in looks:
        assert code == 0, error
    assert listing[1].count("Running") == RUNS and run_id in shown[1]
    assert logs[1].startswith("line 0\n") and "loss" in metrics[1]
