"""`hpcrun --help`, `list` and `sites list`, on this machine."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from statistics import median

from benchmarks.interleaved import interleaved
from benchmarks.row import Row

AIM = 3.0
AIM_OF_SITES = 1.5


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
            "hpcrun sites list": (*hpcrun, "sites", "list"),
        }
        times = interleaved(commands, count, env)
    floor, sites = median(times.pop("floor")), median(times.pop("hpcrun sites list"))
    for what, seconds in times.items():
        yield Row.times(f"{what}, against import click", median(seconds), floor, AIM)
    helps = median(times["hpcrun --help"])
    yield Row.times("hpcrun sites list, against hpcrun --help", sites, helps, AIM_OF_SITES)
