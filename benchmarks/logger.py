"""Logs points and tells how long it took: `python logger.py <kind> <folder> <steps> <rate>`.

It prints `ready <run id>`, begins when a line comes, prints the seconds, and ends when stdin does.
Each step is one point of each of NAMES. rate: calls per second; 0: as many as it can. With a rate,
the 8 bytes of <folder>/returned tell at any moment how many calls have returned. A program of its
own, since the interpreter that has MLflow may be another.
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


KINDS = {"raw": raw, "hpcrun": hpcrun, "tensorboard": tensorboard, "mlflow": mlflow}


def main(kind: str, folder: Path, steps: int, rate: float) -> None:
    """Logs when it is told to."""
    run_id, log = KINDS[kind](folder)
    print("ready", run_id, flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    if rate:
        _at_rate(log, steps, rate, folder / "returned")
    else:
        for step in range(steps):
            for name in NAMES:
                log(name, step * 0.37, step)
    print(time.perf_counter() - began, flush=True)
    sys.stdin.read()


def _at_rate(log: Log, steps: int, rate: float, path: Path) -> None:
    with path.open("w+b") as file:
        file.truncate(8)
        returned = mmap.mmap(file.fileno(), 8)
    began, count = time.perf_counter(), 0
    for step in range(steps):
        for name in NAMES:
            early = began + count / rate - time.perf_counter()
            if early > 0.001:
                time.sleep(early)
            log(name, step * 0.37, step)
            count += 1
            struct.pack_into("=q", returned, 0, count)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
