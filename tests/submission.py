"""A user's submissions on the test cluster, and what the cluster itself knows of them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcrun.layout import UserPaths
from hpcrun.record import Fact, decode_page
from tests.lab import Lab, eventually, without_waiting

RUN_YAML = """\
script: train.py
arguments: [{ran}]
compute_target: test-cluster
experiment: {name}
resources: {{time: 5m}}
"""

# Each run of user code leaves a line; so does each point whose log call has returned.
TRAIN = """\
import os, sys
from hpcrun import Run

run = Run.get_context()
ran = os.open(os.path.join(sys.argv[1], run.id), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(ran, b"begun\\n")
for step in range(3):
    run.log("loss", 1 / (step + 1), step=step)
    os.write(ran, b"logged\\n")
"""


@dataclass(frozen=True)
class Place:
    """A workspace and a source folder of alice's, for one test."""

    lab: Lab
    workspace: Path
    source: Path
    experiment: str
    seen: Path | None = None
    """Where this machine sees the workspace, if it does not lie at its own path."""

    @property
    def own(self) -> UserPaths:
        return UserPaths.of(str(self.workspace), "alice")

    @property
    def active(self) -> Path:
        return Path(UserPaths.of(str(self.seen or self.workspace), "alice").active)

    def leftovers(self) -> list[str]:
        """What lies where runs are recorded: run ids, and parts of runs."""
        return [path.name for path in self.active.iterdir()] if self.active.exists() else []

    def names(self) -> list[str]:
        """The ids of the runs whose record is there."""
        return [name for name in self.leftovers() if not name.startswith(".")]

    def jobs(self) -> dict[str, list[str]]:
        """The ids of the jobs of each run that was submitted from here, as Slurm knows them."""
        begin = f"{self.experiment}_"
        return {name: ids for name, ids in jobs(self.lab).items() if name.startswith(begin)}

    def environment(self, bin: Path | None = None, **more: str) -> dict[str, str]:
        """bin: a folder that comes first on PATH."""
        environ = self.lab.environment(HPCRUN_WORKSPACE=str(self.workspace), **more)
        if bin is not None:
            environ["PATH"] = f"{bin}:{environ['PATH']}"
        return environ

    def words(self, *words: str) -> list[str]:
        return [str(self.lab.venv / "bin/hpcrun"), *words]

    def run(
        self, *words: str, bin: Path | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """`hpcrun WORDS` in the source folder. more: variables."""
        environ = self.environment(bin, **more)
        done = self.lab.cluster.run("alice", self.words(*words), cwd=self.source, env=environ)
        return without_waiting(done)

    def start(self, *words: str, bin: Path | None = None) -> subprocess.Popen[str]:
        """`hpcrun WORDS`, left running; the process id is its own."""
        environ = self.environment(bin)
        return self.lab.cluster.popen("alice", self.words(*words), cwd=self.source, env=environ)

    def json(self, command: str, *words: str) -> Any:
        """What `hpcrun WORDS --json` prints, from someone who remembers no heartbeat."""
        return self.lab.json(
            command,
            *words,
            cwd=self.source,
            env={"HPCRUN_WORKSPACE": str(self.workspace), "XDG_CACHE_HOME": "/dev/null"},
        )

    def runs(self) -> dict[str, Any]:
        """All runs of the workspace, by their ids."""
        return {run["run_id"]: run for run in self.json("list", "-n", "0")}

    def ran(self, run_id: str) -> list[str]:
        """What a run's user code left behind."""
        path = self.source / "ran" / run_id
        return path.read_text().split() if path.exists() else []

    def points(self, run_id: str) -> list[float]:
        """The values that a run has logged, in order."""
        return points(self.active / run_id)

    def script(self, name: str, text: str) -> Path:
        """A folder with one executable file, for PATH."""
        folder = self.source / f"bin-{len(list(self.source.glob('bin-*')))}"
        folder.mkdir()
        (folder / name).write_text("#!/bin/bash\n" + text)
        (folder / name).chmod(0o755)
        return folder

    def sbatch(self, run_id: str, *more: str) -> str:
        """Hands a run's script to Slurm by hand once more, waits for the end; its log."""
        record = self.active / run_id
        log = self.source / f"by-hand-{run_id}.log"
        words = ["sbatch", "--wait", f"--output={log}", *more, str(record / "script.sh")]
        done = self.lab.cluster.run("alice", words, cwd=self.source)
        assert done.returncode == 0, (done.stderr, log.read_text() if log.exists() else "")
        return log.read_text()


@contextlib.contextmanager
def make_place(lab: Lab, name: str) -> Iterator[Place]:
    """An empty workspace and a source folder, both gone afterwards.

    Their names are new: who shares the cluster may run the same test, and sacct remembers jobs.
    """
    name = re.sub(r"[^a-z0-9]+", "-", f"{name}-{os.urandom(3).hex()}")
    source = lab.folder(name, {"train.py": TRAIN, "ran/.keep": ""})
    (source / "run.yaml").write_text(RUN_YAML.format(ran=source / "ran", name=name))
    (source / ".gitignore").write_text("*\n!*.py\n!run.yaml\n")
    workspace = lab.cluster.shared / name
    workspace.mkdir()
    os.chown(workspace, source.stat().st_uid, -1)
    try:
        yield Place(lab, workspace, source, name)
    finally:
        _wait_for_jobs(lab, name)
        shutil.rmtree(source)
        shutil.rmtree(workspace)


def _wait_for_jobs(lab: Lab, experiment: str) -> None:
    """None of them still writes anything."""
    words = ["squeue", "--noheader", "--user=alice", "--format=%j"]
    eventually(lambda: f"{experiment}_" not in lab.cluster.run("alice", words).stdout)


def points(record: Path) -> list[float]:
    """The values that the run of this record has logged, in order."""
    facts: list[Fact] = []
    for path in record.glob("*.metrics.jsonl"):
        facts += decode_page(path.read_bytes()).facts
    logged = [fact for fact in facts if fact.kind == "metric"]  # not what its node measured
    return [fact.data["v"] for fact in sorted(logged, key=lambda fact: fact.number)]


def jobs(lab: Lab, user: str = "alice") -> dict[str, list[str]]:
    """Job name → the ids of a user's jobs of that name, from squeue and sacct together."""
    words = ["squeue", "--noheader", "--states=all", f"--user={user}", "--format=%i %j"]
    lines = lab.cluster.run(user, words).stdout.splitlines()
    if lab.cluster.has_accounting():
        words = ["sacct", "--noheader", "--parsable2", "--allocations", "--starttime=now-1hour"]
        words += ["--delimiter= ", "--format=JobID,JobName"]
        lines += lab.cluster.run(user, words).stdout.splitlines()
    found: dict[str, set[str]] = {}
    for line in lines:
        number, _, name = line.partition(" ")
        found.setdefault(name, set()).add(number)
    return {name: sorted(numbers) for name, numbers in found.items()}
