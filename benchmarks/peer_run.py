"""Writes one run as a peer keeps it: `python peer_run.py <kind> <folder>`. Nothing else is written.

A program of its own, since the interpreter that has the peer may be another.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = ("loss", "accuracy", "lr", "val_loss", "val_accuracy")
POINTS = 10_000
PER_SECOND = 8
BEGIN = 1_700_000_000
BATCH = 1_000
"""As many metrics as one call of MLflow takes."""


def points(seed: int) -> Iterator[tuple[int, float, dict[str, float]]]:
    """(step, Unix seconds, value by name) of each step."""
    noise = random.Random(seed)
    for step in range(POINTS):
        yield step, BEGIN + step / PER_SECOND, {name: noise.random() for name in NAMES}


def tensorboard(folder: Path) -> None:
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step, seconds, values in points(0):
            for name, value in values.items():
                writer.add_scalar(name, value, step, walltime=seconds)


def mlflow_sqlite(folder: Path) -> None:
    _mlflow(f"sqlite:///{folder}/mlflow.db")


def mlflow_files(folder: Path) -> None:
    _mlflow(f"file://{folder}/mlruns")


def _mlflow(uri: str) -> None:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(uri)
    run_id = client.create_run(client.create_experiment("bench")).info.run_id
    batch: list[Metric] = []
    for step, seconds, values in points(0):
        batch += [Metric(name, value, int(1000 * seconds), step) for name, value in values.items()]
        if len(batch) == BATCH:
            client.log_batch(run_id, metrics=batch)
            batch = []
    client.set_terminated(run_id)


def wandb(folder: Path) -> None:
    import wandb

    settings = wandb.Settings(console="off", silent=True, x_disable_stats=True)
    with wandb.init(project="bench", dir=str(folder), mode="offline", settings=settings) as run:
        for step, _, values in points(0):
            run.log(values, step=step)


def trackio(folder: Path) -> None:
    import trackio

    trackio.init(project="bench", name="bench", embed=False)
    for step, _, values in points(0):
        trackio.log(values, step=step)
    trackio.finish()


KINDS = {
    "tensorboard": tensorboard,
    "mlflow-sqlite": mlflow_sqlite,
    "mlflow-files": mlflow_files,
    "wandb": wandb,
    "trackio": trackio,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](Path(sys.argv[2]))
