"""`hpcrun submit` of a large unchanged source on the login node, against `sbatch` alone.

All jobs are held, so that none runs while another command is timed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.lab import FOLDERS, USER, environment, times
from benchmarks.opens import Opens
from benchmarks.row import Row
from tests.lab import Lab

FILES = 2000
AIM = 3.0
SETTLING = 3.0
"""Seconds after which the snapshot's stat cache remembers a new file."""

NAME = "bench-floor"

_RUN = """\
source_directory: source
script: train.py
compute_target: test-cluster/main
sbatch: {hold: null}
"""
_BARE = f"""\
#!/bin/bash
#SBATCH --job-name={NAME} --hold --output=/dev/null
python3 train.py
"""


def rows(lab: Lab, count: int) -> Iterator[Row]:
    """The time of a submission, and the source files that it opens."""
    folder = _folder(lab)
    submit = [str(lab.venv / "bin/hpcrun"), "submit"]
    try:
        with Opens(folder / "source") as opens:
            times(lab, {"submit": submit}, 0, folder)
            first = opens.count()
            commands = {
                "python": [lab.python, "-c", "pass"],
                "sbatch": ["sbatch", "--parsable", "bare.sh"],
                "click": [lab.python, "-c", "import click"],
                "submit": submit,
            }
            found = {
                name: median(took) for name, took in times(lab, commands, count, folder).items()
            }
            again = opens.count()
    finally:
        _cancel(lab)
    what = f"hpcrun submit, {FILES} unchanged files"
    floor = found["sbatch"] + found["python"]
    yield Row.times(f"{what}, against sbatch + python start", found["submit"], floor, AIM)
    with_click = found["sbatch"] + found["click"]
    yield Row.times(f"{what}, against sbatch + import click", found["submit"], with_click, None)
    counted = f"source files opened by {count + 1} such submissions"
    yield Row(counted, f"{again}", f"{first} (the first one)", "-", "0", again == 0)


def _folder(lab: Lab) -> Path:
    modules = {f"source/part{n % 40:02}/module{n:04}.py": f"X = {n}\n" * 20 for n in range(FILES)}
    modules.popitem()
    files = {"run.yaml": _RUN, "bare.sh": _BARE, "source/train.py": "print('trained')\n", **modules}
    folder = lab.folder(f"{FOLDERS}submit", files)
    time.sleep(SETTLING)
    return folder


def _cancel(lab: Lab) -> None:
    """Cancels the held jobs: ours by their ids, the others by a name that only they have."""
    runs = json.loads(lab.ok("list", "--json", "--last", "0", env=environment(lab)))
    jobs = [run["job_id"] for run in runs if run["job_id"]]
    for words in (["scancel", *jobs] if jobs else [], ["scancel", f"--name={NAME}"]):
        if words:
            lab.cluster.run(USER, words)
