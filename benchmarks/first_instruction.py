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
_NOTED = """\
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
            ".hpcrun/templates/sbatch.sh.j2": _NOTED,
        },
    )
    python: list[float] = []
    bare: list[float] = []
    ours: list[float] = []
    for turn in range(count + 1):
        took = folder / f"took-{turn}"
        # The first round is not counted.
        keep = slice(1 if turn == 0 else 0, None)
        start = {"python": [lab.python, "-c", "pass"]}
        python += times(lab, start, 1, node=NODE)["python"][keep]
        bare += [_bare_job(lab, folder, took.with_suffix(".bare"))][keep]
        ours += [_our_job(lab, folder, took.with_suffix(".hpcrun"))][keep]
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


def _bare_job(lab: Lab, folder: Path, took: Path) -> float:
    words = ["sbatch", "--parsable", "bare.sh"]
    env = {**environment(lab), "TOOK": str(took)}
    done = lab.cluster.run(USER, words, cwd=folder, env=env)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return _taken(lab, took, done.stdout.strip())


def _our_job(lab: Lab, folder: Path, took: Path) -> float:
    words = ("--set", f"environment_variables.TOOK={took}")
    submitted = lab.json("submit", *words, cwd=folder, env=environment(lab))
    return _taken(lab, took, submitted["job_id"])


def _taken(lab: Lab, took: Path, job: str) -> float:
    """What the job noted, once nothing of it runs any more."""
    eventually(took.exists)
    alive = ["squeue", "--noheader", "--states=R,CG", f"--jobs={job}"]
    eventually(lambda: not lab.cluster.run(USER, alive).stdout)
    time.sleep(0.2)
    return float(took.read_text())
