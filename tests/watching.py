"""A run whose ranks log on one node, and a reader on another that looks all the while."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster.network import REMEMBERED
from tests.lab import Lab

RANKS = 2

RUN_YAML = f"""\
script: train.py
arguments: ["{{steps}}", "{{pause}}"]
compute_target: test-cluster
experiment: {{name}}
distributed_job_config: {{{{kind: mpi, process_count_per_node: {RANKS}, launcher: srun}}}}
resources: {{{{time: 5m}}}}
sbatch: {{{{nodelist: n1}}}}
system_metrics_seconds: 1
"""

TRAIN = """\
import sys, time
from hpcrun import Run

run = Run.get_context(rank_guard=False)
for step in range(int(sys.argv[1])):
    run.log("value", 10 * step + run.rank, step=step)
    time.sleep(float(sys.argv[2]))
"""

# One line for each look, until the run has ended so many seconds ago.
WATCH = """\
import json, sys, time
from pathlib import Path
from hpcrun.errors import StoreError
from hpcrun.layout import JournalKind
from hpcrun.store import FileStore

store = FileStore(Path(sys.argv[1]), sys.argv[2])
paths = store.paths(sys.argv[3])
last, ended = time.monotonic() + 300, False
while time.monotonic() < last:
    try:
        record = store.read(paths.run_id)
        facts, bad = store.facts(paths, JournalKind.METRICS)
    except StoreError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        continue
    now, steps, newest = time.time(), {}, 0.0
    for fact in facts:
        if fact.kind == "metric" and fact.data["m"] == "value":
            rank = fact.data.get("r", 0)
            steps.setdefault(rank, []).append((fact.data["s"], fact.data["v"]))
            newest = max(newest, fact.time)
    wrong = [
        (rank, step)
        for rank, found in steps.items()
        for step, value in sorted(found)
        if value != 10 * step + rank or found.count((step, value)) > 1
    ]
    gaps = [
        (rank, step)
        for rank, found in steps.items()
        for step in set(range(max(found)[0])) - {step for step, _ in found}
    ]
    if record.state.is_end and not ended:
        ended, last = True, time.monotonic() + float(sys.argv[5])
    print(json.dumps({
        "time": now,
        "points": [len(steps.get(rank, ())) for rank in range(int(sys.argv[4]))],
        "wrong": wrong,
        "gaps": gaps,
        "bad_lines": bad + record.bad_lines,
        "age": now - newest if newest and not record.state.is_end else None,
        "state": str(record.state),
    }), flush=True)
    time.sleep(0.1)
"""


class Look(NamedTuple):
    """What a reader saw at one moment: time, in Unix seconds.

    points: by rank. wrong: what was not logged so, or is there twice; gaps: what is missing before
    the last one; each (rank, step). age: seconds since the newest one was logged, while the run
    goes on.
    """

    time: float
    points: list[int]
    wrong: list[list[int]]
    gaps: list[list[int]]
    bad_lines: int
    age: float | None
    state: str

    @property
    def is_clean(self) -> bool:
        """Whether nothing is missing before what is there, nor doubled, nor torn."""
        return not (self.wrong or self.gaps or self.bad_lines)


@dataclass(frozen=True)
class Watched:
    """A workspace of alice's on the cluster, and a folder with a run's source."""

    lab: Lab
    workspace: Path
    source: Path

    @classmethod
    def of(cls, lab: Lab, workspace: Path, name: str, steps: int, pause: float) -> Watched:
        """A run that logs so many steps on each rank, with so many seconds between them."""
        run = RUN_YAML.format(name=name, steps=steps, pause=pause)
        return cls(lab, workspace, lab.folder(name, {"run.yaml": run, "train.py": TRAIN}))

    def environment(self) -> dict[str, str]:
        return self.lab.environment(
            HPCRUN_WORKSPACE=str(self.workspace), XDG_CACHE_HOME=str(self.source / "cache")
        )

    def run(
        self, *words: str, node: str = "login", timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """`hpcrun WORDS` on a host."""
        hpcrun = [str(self.lab.venv / "bin/hpcrun"), *words]
        return self.lab.cluster.run(
            "alice", hpcrun, cwd=self.source, env=self.environment(), node=node, timeout=timeout
        )

    def json(self, *words: str, node: str = "login", timeout: float = 300) -> Any:
        """What a command says that must succeed."""
        done = self.run(*words, "--json", node=node, timeout=timeout)
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def python(self, code: str, *words: str, node: str) -> subprocess.Popen[str]:
        """A program of alice's on a host, left running."""
        command = [self.lab.python, "-c", code, *words]
        return self.lab.cluster.popen("alice", command, env=self.environment(), node=node)

    def watch(self, run_id: str, node: str) -> subprocess.Popen[str]:
        """A reader on a host."""
        words = (str(self.workspace), "alice", run_id, str(RANKS), str(2 * REMEMBERED))
        return self.python(WATCH, *words, node=node)


def looks_of(reader: subprocess.Popen[str]) -> Sequence[Look]:
    """What a reader saw, once it has ended; it must not have met an error."""
    output, errors = reader.communicate(timeout=300)
    assert reader.returncode == 0, errors
    told = [json.loads(line) for line in output.splitlines()]
    assert not [look for look in told if "error" in look], told
    return [Look(**look) for look in told]
