"""Logs points and tells how long it took: `logger.py <kind> <folder> <steps> <rate> [<file>]`.

It prints `ready <run id>`, begins when a line comes, prints the seconds, and ends when stdin does.
Each step is one point of each of NAMES. rate: calls per second; 0: as many as it can. file: its 8
bytes tell at any moment how many calls have returned. A program of its own, since the interpreter
that has the peers may be another.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

Log = Callable[[str, float, int], object]

NAMES = ("loss", "accuracy", "lr", "grad_norm", "seconds")


def raw(folder: Path) -> tuple[str, Log]:
    """What no logger can do without: a line of JSON, and a write of it."""
    name = f"{os.getpid()}.jsonl"
    file = (folder / name).open("ab", buffering=0)

    def log(name: str, value: float, step: int) -> None:
        point = {"m": name, "v": value, "s": step, "t": time.time()}
        file.write(json.dumps(point).encode() + b"\n")

    return name, log


def hpcrun(folder: Path) -> tuple[str, Log]:
    """An interactive run in the history in the folder."""
    from hpcrun import Experiment, Workspace

    run = Experiment(Workspace(folder), "bench").start_logging(
        outputs=False, snapshot_directory=None
    )
    return run.id, lambda name, value, step: run.log(name, value, step=step)


def tensorboard(folder: Path) -> tuple[str, Log]:
    """tensorboardX, which writes in a thread of its own after its call has returned."""
    from tensorboardX import SummaryWriter

    name = str(os.getpid())
    return name, SummaryWriter(str(folder / name)).add_scalar


def mlflow(folder: Path) -> tuple[str, Log]:
    """A run in MLflow's database in the folder."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("bench")
    run_id = mlflow.start_run().info.run_id
    return run_id, lambda name, value, step: mlflow.log_metric(name, value, step=step)


def wandb(folder: Path) -> tuple[str, Log]:
    """An offline run in the folder; its own process writes the file."""
    import wandb

    run = wandb.init(
        project="bench",
        dir=str(folder),
        mode="offline",
        settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
    )
    return run.id, lambda name, value, step: run.log({name: value}, step=step)


def trackio(folder: Path) -> tuple[str, Log]:
    """A run in trackio's database in the folder, which a thread writes."""
    import trackio

    trackio.init(project="bench", name="bench", embed=False)
    return "bench", lambda name, value, step: trackio.log({name: value}, step=step)


def h5py(folder: Path) -> tuple[str, Log]:
    """Rows appended in place, flushed after each hundred, as the library's guide shows."""
    import h5py
    import numpy

    row = numpy.dtype([("name", "S16"), ("value", "f8"), ("step", "i8")])
    file = h5py.File(folder / "points.h5", "w")
    points = file.create_dataset("points", (0,), row, maxshape=(None,), chunks=(1000,))

    def log(name: str, value: float, step: int) -> None:
        points.resize((len(points) + 1,))
        points[-1] = (name, value, step)
        if len(points) % 100 == 0:
            file.flush()

    return "points", log


KINDS = {
    "raw": raw,
    "hpcrun": hpcrun,
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "wandb": wandb,
    "trackio": trackio,
    "h5py": h5py,
}


def main(kind: str, folder: Path, steps: int, rate: float, counter: Path | None) -> None:
    """Logs when it is told to."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # peers print what they like
    run_id, log = KINDS[kind](folder)
    print("ready", run_id, file=answers, flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    if counter is not None:
        _counted(log, steps, rate, counter)
    else:
        for step in range(steps):
            for name in NAMES:
                log(name, step * 0.37, step)
    print(time.perf_counter() - began, file=answers, flush=True)
    sys.stdin.read()


def _counted(log: Log, steps: int, rate: float, path: Path) -> None:
    with path.open("w+b") as file:
        file.truncate(8)
        returned = mmap.mmap(file.fileno(), 8)
    began, count = time.perf_counter(), 0
    for step in range(steps):
        for name in NAMES:
            early = began + count / rate - time.perf_counter() if rate else 0
            if early > 0.001:
                time.sleep(early)
            log(name, step * 0.37, step)
            count += 1
            struct.pack_into("=q", returned, 0, count)


if __name__ == "__main__":
    counter = Path(sys.argv[5]) if sys.argv[5:] else None
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), counter)
