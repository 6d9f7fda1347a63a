"""From the start of a job to the first instruction of the user's script, on a compute node.

hpcrun's script and a bare one note bash's clock in their first line, the user's script its own
when it begins; both run on the same node, in turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.lab import FOLDERS, USER, environment, times
from benchmarks.row import Row, milliseconds
from tests.cluster.layout import NODES
from tests.lab import Lab, eventually

AIM = 3.0
NODE = NODES[0].name

_USER_SCRIPT = """\
import time

now = time.time()
import os

with open(os.environ["TOOK"] + ".part", "w") as file:
    file.write(str(now - float(os.environ["BEGAN"])))
os.rename(os.environ["TOOK"] + ".part", os.environ["TOOK"])
"""
NOTED = """\
{% extends "shipped/sbatch.sh.j2" %}
{% block settings %}
export BEGAN=$EPOCHREALTIME
{{ super() }}
{% endblock %}
"""


def rows(lab: Lab, count: int) -> Iterator[Row]:
    """How many interpreter starts hpcrun puts before the user's first instruction."""
    folder = lab.folder(
        f"{FOLDERS}start",
        {
            "run.yaml": _run(lab.python),
            "bare.sh": _bare(lab.python),
            "first.py": _USER_SCRIPT,
            ".hpcrun/templates/sbatch.sh.j2": NOTED,
        },
    )
    python: list[float] = []
    bare: list[float] = []
    ours: list[float] = []
    for turn in range(count + 1):
        took = folder / f"took-{turn}-bare"
        # The first round is not counted.
        keep = slice(1 if turn == 0 else 0, None)
        start = {"python": [lab.python, "-c", "pass"]}
        python += times(lab, start, 1, node=NODE)["python"][keep]
        bare += [_taken(lab, took, bare_job(lab, folder, "bare.sh", took))][keep]
        took = folder / f"took-{turn}-hpcrun"
        ours += [_taken(lab, took, our_job(lab, folder, took))][keep]
    start_time, more = median(python), median(ours) - median(bare)
    yield Row(
        "job start to first user instruction, against a bare script",
        milliseconds(median(ours)),
        milliseconds(median(bare)),
        f"{more / start_time:.1f} starts more",
        f"≤ {AIM:g} starts of {milliseconds(start_time)} more",
        more <= AIM * start_time,
    )


def _run(python: str) -> str:
    return (
        f"command: [{python}, first.py]\ncompute_target: test-cluster/main\n"
        f"sbatch: {{nodelist: {NODE}}}\n"
    )


def _bare(python: str) -> str:
    return (
        f"#!/bin/bash\n#SBATCH --nodelist={NODE} --output=/dev/null\n"
        f"export BEGAN=$EPOCHREALTIME\nexec {python} first.py\n"
    )


def bare_job(lab: Lab, folder: Path, script: str, took: Path) -> str:
    """The id of a job of a script that notes in files of that name."""
    words = ["sbatch", "--parsable", script]
    env = {**environment(lab), "TOOK": str(took)}
    done = lab.cluster.run(USER, words, cwd=folder, env=env)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def our_job(lab: Lab, folder: Path, took: Path, *words: str) -> str:
    """The id of the job of a run that does the same."""
    words = (*words, "--set", f"environment_variables.TOOK={took}")
    found: str = lab.json("submit", *words, cwd=folder, env=environment(lab))["job_id"]
    return found


def gone(lab: Lab, job: str) -> None:
    """Waits until nothing of a job runs any more."""
    alive = ["squeue", "--noheader", "--states=R,CG", f"--jobs={job}"]
    eventually(lambda: not lab.cluster.run(USER, alive).stdout)
    time.sleep(0.2)


def _taken(lab: Lab, took: Path, job: str) -> float:
    """What the job noted, once nothing of it runs any more."""
    eventually(took.exists)
    gone(lab, job)
    return float(took.read_text())
