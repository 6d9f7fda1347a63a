"""From a plan to its script, in a process that has rendered one before; and in one that has not.

The floor is Jinja with the templates that it holds already: nothing is read again, nothing checked.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

from benchmarks.row import Row, milliseconds
from hpcrun.assets import Assets
from hpcrun.script import MAIN, render, variables
from hpcrun.site import SiteConfig
from hpcrun.templating import sandbox
from hpcrun.workflow.templates import samples

AIM = 0.005

_FIRST = """
from time import perf_counter
from hpcrun.assets import Assets
from hpcrun.script import render
from hpcrun.site import SiteConfig
from hpcrun.workflow.templates import samples

plan = [*samples(SiteConfig(1, "any"), ["srun"])][1]
began = perf_counter()
render(plan, Assets().templates().load)
print(perf_counter() - began)
"""


def rows(count: int) -> Iterator[Row]:
    """Of a plan of two nodes by srun."""
    plan = [*samples(SiteConfig(1, "any"), ["srun"])][1]
    load = Assets().templates().load
    held, values = sandbox(load).get_template(MAIN), variables(plan)
    warm: list[float] = []
    alone: list[float] = []
    first: list[float] = []
    for turn in range(count + 1):
        # The first round is not counted.
        keep = slice(1 if turn == 0 else 0, None)
        warm += [_timed(lambda: render(plan, load))][keep]
        alone += [_timed(lambda: held.render(values))][keep]
        first += [_in_a_new_process()][keep]
    floor = median(alone)
    for what, took, aim in (
        ("a plan to a script, warm, against Jinja alone", median(warm), AIM),
        ("the first script of a process, against Jinja alone", median(first), None),
    ):
        words = f"< {milliseconds(aim)}" if aim else "-"
        met = took < aim if aim else None
        yield Row(what, _fine(took), _fine(floor), f"{took / floor:.1f}×", words, met)


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _in_a_new_process() -> float:
    done = subprocess.run([sys.executable, "-c", _FIRST], check=True, capture_output=True)
    return float(done.stdout)


def _fine(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
