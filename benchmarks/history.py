"""The run history: listing, filtering and sorting many sealed runs, and one metric of many."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks.interleaved import interleaved
from benchmarks.peer_run import NAMES, POINTS
from benchmarks.row import Row
from benchmarks.sealed_run import facts, request, sealed_run
from hpcrun.fold import fold
from hpcrun.record import Numbers
from hpcrun.store import FileStore
from hpcrun.store.indexing import write_generation
from hpcrun.store.rows import Row as IndexRow
from hpcrun.store.sealed import open_sealed

RUNS = 100_000
BEGIN, END = 1_690_000_000, 1_716_000_000
"""When the first and the last of them were made: over ten months."""

SEALED = 100

LISTING_AIM, FILTER_AIM = 1.5, 2.0

ASKED = (
    ("--sort", "loss"),
    ("--sort=-metrics.accuracy:max",),
    ("--status", "Failed"),
    ("--tag", "seed=abc"),
    ("--since", "2024-01-01", "--until", "2024-01-08"),
    ("--columns", "run,status,took,tags.kind,metrics.loss,metrics.loss:min"),
)
"""Words of a list that are timed."""


def rows(count: int) -> Iterator[Row]:
    """Listing, then metrics."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _listing(Path(folder), count)
    with tempfile.TemporaryDirectory() as folder:
        yield from _metrics(Path(folder), count)


# -- listing ------------------------------------------------------------------------------------


def _listing(root: Path, count: int) -> Iterator[Row]:
    from hpcrun.store.users import login_of

    workspace = root / "history"
    store = FileStore(workspace, login_of(os.getuid()))
    store.prepare()
    _many(store)
    env = {**os.environ, "XDG_CACHE_HOME": str(root / "cache")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    hpcrun = (sys.executable, "-m", "hpcrun", "-w", str(workspace), "list")
    commands = {
        "floor": (sys.executable, "-c", "import click, h5py"),
        f"hpcrun list, 20 newest of {RUNS}": hpcrun,
        **{f"hpcrun list {' '.join(words)}, {RUNS} runs": (*hpcrun, *words) for words in ASKED},
    }
    times = interleaved(commands, count, env)
    floor = median(times.pop("floor"))
    for place, (what, seconds) in enumerate(times.items()):
        aim = LISTING_AIM if place == 0 else FILTER_AIM
        yield Row.times(f"{what}, against import click, h5py", median(seconds), floor, aim)


def _many(store: FileStore) -> None:
    """An index of so many runs, over ten closed months; their sealed files are not looked at."""
    noise = random.Random(0)
    texts = {}
    for number in range(RUNS):
        seconds = BEGIN + (END - BEGIN) * number // RUNS
        run_id = f"digits_{seconds}_{number:08x}"
        record = fold(request(run_id, seconds, store.user), facts(seconds, number % 7 == 0))
        metrics = {name: Numbers(*(noise.random() for _ in range(3))) for name in NAMES}
        texts[run_id] = IndexRow(record, 0, metrics).encode()
    months = {f"2023-{month:02}" for month in range(7, 13)}
    months |= {f"2024-{month:02}" for month in range(1, 6)}
    write_generation(store.own.indexes, 1, texts, months)


# -- metrics ------------------------------------------------------------------------------------


def _metrics(root: Path, count: int) -> Iterator[Row]:
    store = FileStore(root / "history", "alice")
    store.prepare()
    paths = [sealed_run(store, number) for number in range(SEALED)]
    raw = [_raw(path, root / f"{place}.h5") for place, path in enumerate(paths)]
    floor, points, full = _in_turn(
        count,
        lambda: [_read_raw(path) for path in raw],
        lambda: [_read_points(path) for path in paths],
        lambda: [_read_metric(path) for path in paths],
    )
    what = f"one metric of {POINTS} points from {SEALED} sealed runs"
    yield Row.times(f"{what}, as arrays, against h5py", points, floor, 1.5)
    yield Row.times(f"{what}, as lists with all that is known, against h5py", full, floor, None)


def _raw(path: Path, to: Path) -> Path:
    """The same two columns of one metric as plain h5py would keep them, with the same filters."""
    import h5py

    with open_sealed(path) as run, h5py.File(to, "w") as file:
        for name, values in zip(("step", "value"), run.points("loss"), strict=True):
            file.create_dataset(name, data=values, chunks=(4096,), compression="gzip", shuffle=True)
    return to


def _read_raw(path: Path) -> float:
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        return float(file["step"][:][-1] + file["value"][:][-1])


def _read_points(path: Path) -> float:
    with open_sealed(path) as run:
        steps, values = run.points("loss")
        return float(steps[-1] + values[-1])


def _read_metric(path: Path) -> int:
    with open_sealed(path) as run:
        return run.metric("loss").count


def _in_turn(count: int, *acts: Callable[[], object]) -> list[float]:
    """The median time of each, done in turn; the first round is not counted."""
    times: list[list[float]] = [[] for _ in acts]
    for turn in range(count + 1):
        for act, found in zip(acts, times, strict=True):
            began = time.perf_counter()
            act()
            if turn:
                found.append(time.perf_counter() - began)
    return [median(found) for found in times]
