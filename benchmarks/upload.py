"""What a snapshot costs that goes up over SSH: its time, and the bytes of a small change."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.lab import USER
from benchmarks.row import Row
from tests.cluster.laptop import Laptop
from tests.lab import Lab

FILES, SIZE = 5000, 60_000
ROUNDS = 3
"""At most: each brings 900 MB to the disk."""

LINES = {"on one machine": None, "at 200 Mbit/s": 200_000}
"""In kbit/s; None: as fast as it can, where both halves share the processors."""

MOST = 1.2
MOST_BYTES = 64 << 10
"""Of a change of one line: two connections of SSH are a third of what leaves."""

_SHARED = """\
    ControlMaster auto
    ControlPath ~/.ssh/%C
    ControlPersist 60
"""
_PROGRAM = Path(__file__).parents[1] / "tests/pushing.py"


def rows(lab: Lab, count: int) -> Iterator[Row]:
    """New files against `rsync -a`, both over a connection that is open; then one changed line."""
    laptop = lab.cluster.laptop
    laptop.prepare()
    source = _fill(laptop)
    config = laptop.home / ".ssh/config"
    laptop.write("pushing.py", _PROGRAM.read_text())
    alone = config.read_text()
    laptop.write(".ssh/config", alone + _SHARED)
    folder = lab.cluster.home(USER) / "bench-upload"
    rounds = min(count, ROUNDS)
    try:
        _done(laptop, ["ssh", "login", f"mkdir {folder}"])
        for line, rate in LINES.items():
            laptop.slow(rate)
            place = folder / str(rate)
            yield from _new(lab, laptop, source, place, line, rounds)
        laptop.slow(None)
        laptop.write(".ssh/config", alone)
        laptop.mend()
        (source / "p1/1.py").write_bytes((source / "p1/1.py").read_bytes() + b"one more line\n")
        before = laptop.sent()
        _push(lab, laptop, source, place / f"history{rounds}")
        sent = laptop.sent() - before
        yield Row(
            "one changed line of these: bytes sent, with two logins",
            f"{sent / 1024:.1f} KiB",
            "-",
            "-",
            f"< {MOST_BYTES >> 10} KiB",
            sent < MOST_BYTES,
        )
    finally:
        lab.cluster.run(USER, ["rm", "-rf", str(folder)], timeout=600)
        laptop.prepare()


def _new(
    lab: Lab, laptop: Laptop, source: Path, folder: Path, line: str, rounds: int
) -> Iterator[Row]:
    """A push of files of which nothing is there, against two ways of rsync's."""
    pushes: list[float] = []
    copies: dict[str, list[float]] = {"rsync -a": [], "rsync -a --fsync": []}
    _done(laptop, ["ssh", "login", f"mkdir {folder}"])
    for number in range(rounds + 1):
        for words, times in copies.items():
            began = time.perf_counter()
            _done(laptop, [*words.split(), f"{source}/", f"login:{folder}/{number}{words[-5:]}/"])
            times.append(time.perf_counter() - began)
        pushes.append(_push(lab, laptop, source, folder / f"history{number}"))
    megabytes = FILES * SIZE / 1e6
    what = f"push of {FILES:,} new files, {megabytes:.0f} MB, over SSH, {line}"
    for words, times in copies.items():
        most = MOST if words == "rsync -a" else None
        yield Row.times(f"{what}, against {words}", median(pushes[1:]), median(times[1:]), most)


def _fill(laptop: Laptop) -> Path:
    source, chance = laptop.home / "project", random.Random(1)
    for number in range(FILES):
        file = source / f"p{number % 50}" / f"{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(chance.randbytes(SIZE))
    return source


def _push(lab: Lab, laptop: Laptop, source: Path, workspace: Path) -> float:
    """Seconds, without the scan."""
    hpcrun = str(lab.venv / "bin/hpcrun")
    words = [lab.python, str(laptop.home / "pushing.py"), str(source), "login", hpcrun]
    output, seconds = _done(laptop, [*words, str(workspace)])
    if "pushed" not in output:
        raise RuntimeError(output)
    return float(seconds.split()[-1])


def _done(laptop: Laptop, words: list[str]) -> tuple[str, str]:
    done = laptop.run(words, input="\n", timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout, done.stderr
