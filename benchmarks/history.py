"""The run history: listing and sorting many sealed runs, one metric of many, bytes of one."""

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
from benchmarks.row import Row
from hpcrun.fold import fold
from hpcrun.layout import METRICS_SUFFIX, Attempt
from hpcrun.record import Fact, encode
from hpcrun.store import FileStore
from hpcrun.store.indexing import write_generation
from hpcrun.store.rows import Row as IndexRow
from hpcrun.store.sealed import open_sealed
from hpcrun.store.sealing import seal

RUNS = 100_000
METRICS = ("loss", "accuracy", "lr", "val_loss", "val_accuracy")
POINTS = 10_000
SEALED = 100


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
        f"hpcrun list --sort loss, {RUNS} runs": (*hpcrun, "--sort", "loss"),
        f"hpcrun list --status Failed, {RUNS} runs": (*hpcrun, "--status", "Failed"),
    }
    times = interleaved(commands, count, env)
    floor = median(times.pop("floor"))
    aims = (1.5, 2.0, None)
    for (what, seconds), aim in zip(times.items(), aims, strict=True):
        yield Row.times(f"{what}, against import click, h5py", median(seconds), floor, aim)


def _many(store: FileStore) -> None:
    """An index of so many runs, over ten closed months; their sealed files are not looked at."""
    noise = random.Random(0)
    texts = {}
    begin, end = 1_690_000_000, 1_716_000_000
    for number in range(RUNS):
        seconds = begin + (end - begin) * number // RUNS
        run_id = f"digits_{seconds}_{number:08x}"
        record = fold(_request(run_id, seconds, store.user), _facts(seconds, number % 7 == 0))
        metrics = {name: noise.random() for name in METRICS}
        texts[run_id] = IndexRow(record._replace(request={}), 0, metrics).encode()
    months = {"2023-07", "2023-08", "2023-09", "2023-10", "2023-11", "2023-12"}
    months |= {"2024-01", "2024-02", "2024-03", "2024-04", "2024-05"}
    write_generation(store.own.indexes, 1, texts, months)


def _request(run_id: str, seconds: int, user: str) -> dict[str, object]:
    return {
        "run_id": run_id,
        "experiment": "digits",
        "user": user,
        "target": "mycluster/gpu",
        "created": seconds + 0.5,
        "tags": {"kind": "baseline", "seed": run_id[-3:]},
        "properties": {"ContentSnapshotId": run_id * 2, "azureml.git.commit": run_id},
    }


def _facts(seconds: int, failed: bool) -> list[Fact]:
    started = {"host": "n1", "job_id": str(seconds), "nodes": ["n1"]}
    ended = {"exit_code": int(failed), "cause": "exit_code" if failed else "completed"}
    return [
        Fact("started", Attempt(1), seconds + 5.0, 1, started, "agent"),
        Fact("rank_ended", Attempt(1), seconds + 60.0, 2, {"rank": 0, "status": 0}, "agent"),
        Fact("ended", Attempt(1), seconds + 61.0, 3, ended, "agent"),
    ]


# -- metrics ------------------------------------------------------------------------------------


def _metrics(root: Path, count: int) -> Iterator[Row]:
    store = FileStore(root / "history", "alice")
    store.prepare()
    paths = [_sealed(store, number) for number in range(SEALED)]
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
    ours = median(path.stat().st_size for path in paths)
    peers = {name: size for name, size in _peers(root) if size is not None}
    least = min(peers.values(), default=None)
    told = ", ".join(f"{name} {size:,}" for name, size in sorted(peers.items())) or "none installed"
    yield Row(
        f"bytes of a sealed run of {POINTS} × {len(METRICS)} points, against peers",
        f"{ours:,.0f} in 1 inode",
        told,
        f"{ours / least:.2f}×" if least else "-",
        "< 1×",
        ours < least if least else None,
    )


def _sealed(store: FileStore, number: int) -> Path:
    seconds = 1_700_000_000 + number
    run_id = f"digits_{seconds}_{number:08x}"
    paths = store.create(_request(run_id, seconds, store.user), "#!/bin/sh\n" * 100)
    Path(paths.journal("agent")).write_bytes(b"".join(map(encode, _facts(seconds, False))))
    noise = random.Random(number)
    with Path(paths.record, "rank-0" + METRICS_SUFFIX).open("wb") as file:
        for step in range(POINTS):
            for place, name in enumerate(METRICS):
                data = {"m": name, "v": noise.random(), "s": step}
                fact = Fact("metric", Attempt(1), seconds + step / 8, 5 * step + place + 1, data)
                file.write(encode(fact))
    return seal(store.stored(paths))


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


def _peers(root: Path) -> Iterator[tuple[str, int | None]]:
    """The bytes of the same points in what is installed of the peers."""
    folder = root / "tensorboard"
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import (
            EventFileWriter,
        )
    except ImportError:
        return
    noise = random.Random(0)
    writer = EventFileWriter(str(folder))
    for step in range(POINTS):
        for name in METRICS:
            value = summary_pb2.Summary.Value(tag=name, simple_value=noise.random())
            summary = summary_pb2.Summary(value=[value])
            writer.add_event(event_pb2.Event(wall_time=step / 8, step=step, summary=summary))
    writer.close()
    yield "TensorBoard", sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
