"""`hpcrun show` of a live run with very many points, against parsing its bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.logger import NAMES
from benchmarks.logging_program import logging
from benchmarks.row import Row
from hpcrun import Workspace
from tests.lab import eventually

POINTS = 1_000_000
TIME_AIM = 1.5
MEMORY_AIM = 100.0

JOURNALS = "*.metrics.jsonl"

PARSE = """
import json, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        for line in file:
            json.loads(line[9:])
"""

WATCH = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
took = time.perf_counter() - began
print(took, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
# In a process of its own: the kernel counts what a parent held to its child's peak.


class _Use(NamedTuple):
    """seconds: wall time. memory: MB, the most that was resident."""

    seconds: float
    memory: float


def rows(count: int) -> Iterator[Row]:
    """Its time and its memory. count: turns."""
    steps = POINTS // len(NAMES)
    with tempfile.TemporaryDirectory() as place, logging("hpcrun", Path(place), steps) as program:
        run_id = program.wait_ready()
        program.begin()
        program.seconds()
        store = Workspace(place).session.store
        record = Path(store.paths(run_id).record)
        eventually(lambda: _lines(record) == POINTS)
        commands = {
            "floor": [sys.executable, "-c", PARSE, *map(str, record.glob(JOURNALS))],
            "show": [sys.executable, "-m", "hpcrun", "show", run_id],
        }
        env = {**os.environ, "HPCRUN_WORKSPACE": place, "XDG_CACHE_HOME": place}
        used: dict[str, list[_Use]] = {name: [] for name in commands}
        for turn in range(count + 1):
            for name, words in commands.items():
                use = _run(words, env)
                if turn:
                    used[name].append(use)
    show, floor = (
        _Use(median(one.seconds for one in used[name]), median(one.memory for one in used[name]))
        for name in ("show", "floor")
    )
    what = f"hpcrun show, live run with {POINTS:,} points"
    yield Row.times(
        f"{what}, against json.loads of each line", show.seconds, floor.seconds, TIME_AIM
    )
    yield Row(
        f"{what}: memory",
        f"{show.memory:.0f} MB",
        f"{floor.memory:.0f} MB",
        f"{show.memory / floor.memory:.2f}×",
        f"< {MEMORY_AIM:g} MB",
        show.memory < MEMORY_AIM,
    )


def _lines(record: Path) -> int:
    count = 0
    for path in record.glob(JOURNALS):
        with path.open("rb") as file:
            count += sum(1 for _ in file)
    return count


def _run(words: Sequence[str], env: Mapping[str, str]) -> _Use:
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *words], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds, kilobytes = done.stdout.split()
    return _Use(float(seconds), int(kilobytes) / 1024)
