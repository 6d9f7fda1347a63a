"""One poll of 1,000 jobs by each adapter to Slurm, against `squeue` alone, on the login node.

All jobs are held. The three take turns in one process, whose start is not counted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from statistics import median

from benchmarks.lab import USER, environment
from benchmarks.row import Row
from tests.alice import PYSLURM
from tests.lab import Lab

JOBS = 1000
NAME = "bench-poll"

_FILL = f"""
for n in $(seq {JOBS}); do
    sbatch --quiet --hold --job-name={NAME} --output=/dev/null --wrap=true || exit 1
done
"""

_POLL = f"""
import json, subprocess, sys, time
from hpcrun.errors import SchedulerError
from hpcrun.scheduler.libslurm import LibSlurm
from hpcrun.scheduler.slurm import Slurm
from hpcrun.scheduler.tables import QUEUE_FORMAT

SQUEUE = ["squeue", "--me", "--noheader", "--states=all", "--array", "--Format", QUEUE_FORMAT]
polls = {{
    "squeue": lambda: subprocess.run(SQUEUE, check=True, capture_output=True).stdout.splitlines(),
    "commands": Slurm().jobs,
    "pyslurm": LibSlurm().jobs,
}}
why = ""
try:
    LibSlurm().version()
except SchedulerError as error:
    why = error.message
    del polls["pyslurm"]
times = {{name: [] for name in polls}}
for turn in range(int(sys.argv[1]) + 1):
    for name, poll in polls.items():
        began = time.perf_counter()
        found = poll()
        took = time.perf_counter() - began
        if len(found) < {JOBS}:
            sys.exit(f"{{name}} found {{len(found)}} jobs")
        if turn:
            times[name].append(took)
json.dump({{"times": times, "why": why}}, sys.stdout)
"""


def rows(lab: Lab, count: int) -> Iterator[Row]:
    """The time of a poll by the commands and by the library."""
    env = environment(lab) | {"PYTHONPATH": os.environ.get(PYSLURM, "")}
    run = lab.cluster.run
    try:
        done = run(USER, ["bash", "-c", _FILL], env=env, timeout=600)
        if not done.returncode:
            words = [lab.python, "-c", _POLL, str(count)]
            done = run(USER, words, env=env, timeout=3600)
    finally:
        run(USER, ["scancel", f"--name={NAME}"])
    if done.returncode:
        raise RuntimeError(done.stderr)
    told = json.loads(done.stdout)
    took = {name: median(times) for name, times in told["times"].items()}
    what = f"poll of {JOBS:,} jobs"
    yield Row.times(f"{what} by commands, against squeue", took["commands"], took["squeue"], None)
    if told["why"]:
        yield Row.skipped(f"{what} by pyslurm", told["why"])
    else:
        against = f"{what} by pyslurm, against by commands"
        yield Row.times(against, took["pyslurm"], took["commands"], None)
