"""Runs that log, write files and say lines until a fault ends them, side by side.

What has returned is acknowledged in a file that no fault touches, so that all of it can be looked
for afterwards. Meanwhile somebody looks at the runs, again and again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hpcrun.record import decode_page
from tests.cluster.layout import CONTROLLER
from tests.lab import eventually
from tests.submission import Place

TRAIN = """\
import os, sys, time
from hpcrun import Run

run = Run.get_context(rank_guard=False)
life = os.environ["HPCRUN_ATTEMPT"]
place = f"{sys.argv[1]}/{run.id} {life} {run.rank}"
out = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

def acknowledge(kind, number):
    os.write(out, b"%s %d %f\\n" % (kind, number, time.monotonic()))

number = 0
while not os.path.exists(f"{sys.argv[1]}/end"):
    run.log("point", number, step=number)
    acknowledge(b"point", number)
    if number % 25 == 0:
        print("line", number, flush=True)
        acknowledge(b"line", number)
        with open(f"outputs/{life}-{run.rank}-{number}", "w") as file:
            file.write(str(number))
        acknowledge(b"file", number)
    number += 1
    time.sleep(0.02)
if sys.argv[2:]:
    run.rank and time.sleep(300)
    raise SystemExit(int(sys.argv[2]))
"""

RUN_YAML = """\
script: train.py
arguments: ["{acknowledged}"]
compute_target: test-cluster
experiment: {name}
resources: {{time: 10m}}
system_metrics_seconds: 0
"""

SUBMIT = """\
import io, json, sys
from hpcrun.cli.main import cli

told, out = [], sys.stdout
for words in json.loads(sys.argv[1]):
    sys.stdout = io.TextIOWrapper(io.BytesIO())
    cli.main(words, standalone_mode=False)
    sys.stdout.flush()
    told.append(json.loads(sys.stdout.buffer.getvalue()))
json.dump(told, out)
"""

# What people do all the while, one run after another; nothing of it may fail.
LOOK = """\
import contextlib, io, json, os, sys, time, traceback
from hpcrun.cli.main import cli

looks, wrong = [], []

def said(*words):
    out, error = io.TextIOWrapper(io.BytesIO()), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            cli.main([*words], standalone_mode=False)
        out.flush()
        return out.buffer.getvalue()
    except BaseException:
        told = traceback.format_exc()[-2000:]
        if "has no output yet" not in told:  # of a life that has not begun
            wrong.append([words, told, error.getvalue()])
        return b"[]"

stop, *ids = sys.argv[1:]
number = 0
while not os.path.exists(stop):
    run_id = ids[number % len(ids)]
    number += 1
    runs = json.loads(said("list", "--json", "-n", "0"))
    said("show", run_id)
    said("logs", "--json", run_id)
    points = (json.loads(said("metrics", "--json", run_id) or "{}") or {}).get("point", [])
    told = {
        run["run_id"]: [run["status"], run["attempts"][-1]["attempt"], run["verdict"]]
        for run in runs
    }
    points = points if isinstance(points, list) else [points]  # one alone is bare
    looks.append([told, run_id, points])
    time.sleep(0.3)
print(json.dumps([looks, wrong]))
"""

ENDS = ("Completed", "Failed", "Canceled")


class Acknowledged(NamedTuple):
    """One thing whose call has returned: a point, line or file. moment: by the kernel's clock."""

    run_id: str
    life: str
    rank: int
    kind: str
    number: int
    moment: float


@dataclass(frozen=True)
class Trials:
    """Runs of alice's in one workspace, by their ids as they were submitted.

    let: the lives of jobs, by job and restart, that Slurm has been told to begin.
    """

    place: Place
    runs: list[Any] = field(default_factory=list)
    let: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def at(cls, place: Place, more: str = "") -> Trials:
        """more: of run.yaml."""
        folder = place.source / "acknowledged"
        folder.mkdir()
        os.chown(folder, place.source.stat().st_uid, -1)
        yaml = RUN_YAML.format(acknowledged=folder, name=place.experiment)
        (place.source / "run.yaml").write_text(yaml + more)
        (place.source / "train.py").write_text(TRAIN)
        return cls(place)

    @property
    def ids(self) -> list[str]:
        return [run["run_id"] for run in self.runs]

    @property
    def folder(self) -> Path:
        """Where they acknowledge."""
        return self.place.source / "acknowledged"

    # -- acting -----------------------------------------------------------------------------------

    def submit(self, count: int, *words: str) -> None:
        """Submits so many, in one process."""
        self.runs.extend(self.hpcrun([["submit", "--json", *words]] * count))

    def resubmit(self) -> list[str]:
        """Submits all of them once more; the ids of their jobs."""
        told = self.hpcrun([["resubmit", "--json", run_id] for run_id in self.ids])
        return [run["job_id"] for run in told]

    def hpcrun(self, commands: list[list[str]], python: str = "") -> Any:
        """What commands print as JSON, one after another in one process of this Python."""
        lab = self.place.lab
        words = [python or lab.python, "-c", SUBMIT, json.dumps(commands)]
        environ = self.place.environment()
        done = lab.cluster.run("alice", words, cwd=self.place.source, env=environ)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    def root(self, *words: str) -> str:
        """What a command of the administrator's prints."""
        done = self.place.lab.cluster.run("root", words, node=CONTROLLER.name)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def user(self, *words: str) -> None:
        """A command of alice's."""
        done = self.place.lab.cluster.run("alice", words)
        assert done.returncode == 0, (words, done.stderr)

    def jobs(self) -> list[str]:
        """The ids of their jobs."""
        return [run["job_id"] for run in self.runs]

    def release(self) -> None:
        """Lets those begin soon that wait for two minutes after a requeue."""
        look = ["squeue", "-h", "-t", "PD", "-O", "JobID:|,Name:100|,Reason:|,RestartCnt:|"]
        for line in self.root(*look).splitlines():
            job, name, reason, restart, _ = line.split("|")
            is_ours = name.strip() in self.ids and reason == "BeginTime"
            if is_ours and (job, restart) not in self.let:
                self.let.add((job, restart))
                # For a second or two after its end, its nodes would refuse it, which counts as one
                # more requeue. It may have begun meanwhile.
                words = ["scontrol", "update", f"jobid={job}", "StartTime=now+3"]
                self.place.lab.cluster.run("root", words, node=CONTROLLER.name)

    def until_logging(self, life: str, ranks: Iterable[int] = (0,), at_once: bool = True) -> None:
        """Waits until each of them has acknowledged something in that life, on these ranks.

        at_once: not only when Slurm lets a requeued job begin.
        """

        def logging() -> bool:
            if at_once:
                self.release()
            paths = [self.folder / f"{i} {life} {rank}" for i in self.ids for rank in ranks]
            return all(path.exists() and path.stat().st_size for path in paths)

        eventually(logging, 300)

    def until(self, condition: Callable[[Any], bool], seconds: float = 300) -> dict[str, Any]:
        """The runs once a condition holds for each."""

        def true() -> dict[str, Any] | None:
            self.release()
            now = self.place.runs()
            found = {run_id: now[run_id] for run_id in self.ids}
            return found if all(condition(run) for run in found.values()) else None

        return dict(eventually(true, seconds))

    def end(self) -> None:
        """Tells all of them that it is enough."""
        (self.folder / "end").touch()

    def collect(self) -> None:
        """Has all brought that waits on nodes' disks, as where Slurm was quicker than a keeper."""
        words = [["collect", "--json", run_id] for run_id in self.ids]

        def are_drained() -> bool:
            lives = [life for run in self.hpcrun(words) for life in run["attempts"]]
            return not any(life["undrained"] for life in lives)

        eventually(are_drained, 180)

    # -- looking ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[Any]]:
        """Somebody looks at them meanwhile: gives what was seen, once it is over.

        No look may fail, an end that was told stands until the run is submitted again, and no
        point that was seen is gone.
        """
        stop, looks = self.place.source / "stop-looking", list[Any]()
        words = [self.place.lab.python, "-c", LOOK, str(stop), *self.ids]
        environ = self.place.environment(XDG_CACHE_HOME="/dev/null")
        with self.place.lab.cluster.popen("alice", words, env=environ) as reader:
            try:
                yield looks
            finally:
                stop.touch()
                output, errors = reader.communicate(timeout=300)
                stop.unlink()
        assert reader.returncode == 0, errors
        seen, wrong = json.loads(output)
        assert not wrong, wrong[0]
        looks += seen
        _are_consistent(seen)

    def acknowledged(self) -> list[Acknowledged]:
        """All that has returned."""
        found = []
        for path in self.folder.glob("* * *"):
            run_id, life, rank = path.name.split()
            for line in path.read_text().splitlines():
                kind, number, moment = line.split()
                whole = (run_id, life, int(rank), kind, int(number), float(moment))
                found.append(Acknowledged(*whole))
        return found

    def lost(self) -> list[Acknowledged]:
        """What was acknowledged and is not there, or not as it was; nothing is there twice."""
        there = {run["run_id"]: self._kept(run) for run in self.runs}
        return [one for one in self.acknowledged() if one[1:5] not in there[one.run_id]]

    def _kept(self, run: Any) -> set[tuple[str, int, str, int]]:
        """(life, rank, kind, number) of all that the history has of a run."""
        seen = self.place.seen
        record, files = (Path(run[name]) for name in ("record", "files"))
        if seen is not None:
            record, files = (
                seen / path.relative_to(self.place.workspace) for path in (record, files)
            )
        points = []
        for path in record.glob("*.metrics.jsonl"):
            for fact in decode_page(path.read_bytes()).facts:
                if fact.kind == "metric" and fact.data["v"] == fact.data["s"]:
                    rank = fact.data.get("r", 0)
                    points.append((str(fact.attempt), rank, "point", fact.data["s"]))
        assert len(points) == len(set(points)), "a point is there twice"
        found = set(points)
        for path in files.glob("user_logs/*/rank-*.log"):
            rank = int(path.stem.partition("-")[2])
            lines = path.read_text().splitlines()
            numbers = [line.split()[1] for line in lines if line.startswith("line ")]
            found |= {(path.parent.name, rank, "line", int(n)) for n in numbers if n.isdecimal()}
        for path in files.glob("outputs/*-*-*"):
            life, rank, number = path.name.split("-")
            if path.read_text() == number:
                found.add((life, int(rank), "file", int(number)))
        return found


def _are_consistent(looks: list[Any]) -> None:
    ended: dict[str, tuple[str, Any]] = {}
    points: dict[str, int] = {}
    for told, run_id, values in looks:
        steps = sorted(set(values))  # of several ranks
        assert steps == list(range(len(steps))), (run_id, steps)
        # Of a step that another life logs anew, its values stand.
        assert len(steps) >= points.get(run_id, 0), run_id
        points[run_id] = len(steps)
        for name, (status, life, verdict) in told.items():
            submission = life.partition(".")[0]
            before, why = ended.get(name, ("", None))
            assert status in ENDS or before != submission, (name, why, status, life)
            if status in ENDS:
                ended[name] = submission, (status, life, verdict)
