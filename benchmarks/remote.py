"""`hpcrun list` from a laptop, against `ssh` that runs nothing there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from benchmarks.row import Row, milliseconds
from tests.far import Far
from tests.lab import Lab

TIMES, MORE = 2.0, 0.1
"""What is aimed at: so many times the floor, and so many seconds more."""


def rows(lab: Lab, count: int) -> Iterator[Row]:
    """With a login each time, and over a connection that is shared. count: turns."""
    laptop = lab.cluster.laptop
    laptop.prepare()
    far = Far(laptop, lab)
    socket = f"{laptop.home}/floor"
    shared = ["-o", "ControlMaster=auto", "-o", f"ControlPath={socket}", "-o", "ControlPersist=600"]
    try:
        for what, policy, more in (
            ("a login each time", "refused", []),
            ("connection shared", "recommended", shared),
        ):
            far.site(policy, more=f"multiplex: {policy}")
            floor = ["ssh", *more, "login", "true"]
            listing = far.words("list", site=policy)
            took: dict[str, list[float]] = {"floor": [], "list": []}
            for turn in range(count + 1):
                for name, words in (("floor", floor), ("list", listing)):
                    begun = time.perf_counter()
                    done = laptop.run(words)
                    seconds = time.perf_counter() - begun
                    assert done.returncode == 0, done.stderr
                    if turn:
                        took[name].append(seconds)
            yield _row(f"hpcrun list over SSH, {what}", median(took["list"]), median(took["floor"]))
    finally:
        laptop.mend()


def _row(what: str, measured: float, floor: float) -> Row:
    met = measured <= TIMES * floor + MORE
    ratio = f"{measured / floor:.2f}×"
    aim = f"≤ {TIMES:g}× + {milliseconds(MORE)}"
    return Row(what, milliseconds(measured), milliseconds(floor), ratio, aim, met)
