"""`hpcrun --help` and `hpcrun list` against the import of click, on this machine."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from statistics import median

from benchmarks.interleaved import interleaved
from benchmarks.row import Row

AIM = 3.0


def rows(count: int) -> Iterator[Row]:
    """One row for each command."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "HPCRUN_WORKSPACE": f"{folder}/history", "XDG_CACHE_HOME": folder}
        # The first round leaves compiled modules, as an installation has them.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        hpcrun = (sys.executable, "-m", "hpcrun")
        commands = {
            "floor": (sys.executable, "-c", "import click"),
            "hpcrun --help": (*hpcrun, "--help"),
            "hpcrun list, empty history": (*hpcrun, "list"),
        }
        times = interleaved(commands, count, env)
    floor = median(times.pop("floor"))
    for what, seconds in times.items():
        yield Row.times(f"{what}, against import click", median(seconds), floor, AIM)
