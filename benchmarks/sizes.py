"""Bytes and inodes of an ended run of 10,000 × 5 points, against what else one would take."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import peer_run
from benchmarks.logging_program import environment, interpreter, lacking
from benchmarks.peer_run import NAMES, POINTS
from benchmarks.row import Row
from benchmarks.sealed_run import sealed_run
from hpcrun.store import FileStore


class _Size(NamedTuple):
    bytes: int
    inodes: int

    def __str__(self) -> str:
        return f"{self.bytes:,} in {self.inodes} inode{'s' if self.inodes > 1 else ''}"


PEERS = {
    "tensorboard": "TensorBoard event files",
    "mlflow-sqlite": "MLflow on SQLite",
    "mlflow-files": "MLflow's files",
    "wandb": "wandb offline",
    "trackio": "trackio",
}


def rows() -> Iterator[Row]:
    """One for each peer. The same points in all."""
    with tempfile.TemporaryDirectory() as folder:
        store = FileStore(Path(folder), "alice")
        store.prepare()
        path = sealed_run(store, 0)
        own = _Size(path.stat().st_size, 1)
    what = f"bytes of a sealed run of {POINTS:,} × {len(NAMES)} points"
    for kind, name in PEERS.items():
        needs = kind.partition("-")[0]
        why = lacking(needs)
        if why is not None:
            yield Row.skipped(f"{what}, against {name}", why)
            continue
        try:
            peer = _peer(kind)
        except RuntimeError as error:
            yield Row.skipped(f"{what}, against {name}", str(error))
            continue
        ratio = f"{own.bytes / peer.bytes:.2f}×"
        yield Row(
            f"{what}, against {name}", str(own), str(peer), ratio, "< 1×", own.bytes < peer.bytes
        )


def _peer(kind: str) -> _Size:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        words = [interpreter(kind.partition("-")[0]), peer_run.__file__, kind, place]
        done = subprocess.run(
            words, env=environment(folder), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return _Size(sum(path.stat().st_size for path in files), len(files))
