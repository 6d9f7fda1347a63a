"""What is left of what loggers wrote: (name, step) of each point, read as their users would."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.logging_program import environment, interpreter
from hpcrun import Workspace
from hpcrun.layout import JournalKind
from hpcrun.record import RunRecord
from tests.lab import eventually

Points = set[tuple[str, int]]

SETTLING = 3.0
"""Seconds for which a peer's files must not grow: processes of its own may still write."""

_WANDB = """
import json, pathlib, struct, sys
from wandb.proto.wandb_internal_pb2 import Record

BLOCK, BEGIN = 32768, 7  # LevelDB's log, after seven bytes

def records(data):
    at, begun = BEGIN, b""
    while True:
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
        if at + 7 > len(data):
            return
        _, length, part = struct.unpack_from("<IHB", data, at)
        piece = data[at + 7 : at + 7 + length]
        if not part or len(piece) < length:
            return
        at += 7 + length
        begun = piece if part in (1, 2) else begun + piece
        if part in (1, 4):
            yield begun

found = []
for path in pathlib.Path(sys.argv[1]).rglob("*.wandb"):
    for data in records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        items = {i.key or ".".join(i.nested_key): i.value_json for i in record.history.item}
        step = int(items.get("_step", record.history.step.num))
        found += [(name, step) for name in items if not name.startswith("_")]
print(json.dumps(found))
"""
_TRACKIO = """
import json, os
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from trackio.sqlite_storage import SQLiteStorage
rows = SQLiteStorage.get_logs("bench", "bench")
json.dump([(k, r["step"]) for r in rows for k in r if k not in ("step", "timestamp")], out)
"""
_H5PY = """
import json, sys, h5py
with h5py.File(sys.argv[1] + "/points.h5", "r", locking=False) as file:
    print(json.dumps([(row["name"].decode(), int(row["step"])) for row in file["points"][:]]))
"""


def kept(kind: str, folder: Path, run_id: str) -> Points:
    """The points that can be read. RuntimeError: none can."""
    return _READERS[kind](folder, run_id)


def settle(kind: str, folder: Path, run_id: str) -> None:
    """Waits until nobody writes any more, after the logging process has gone."""
    if kind == "hpcrun":
        store = Workspace(folder).session.store
        eventually(lambda: _is_kept(store.read(run_id)))
        return
    before, since = _size(folder), time.monotonic()
    while time.monotonic() - since < SETTLING:
        time.sleep(0.2)
        if (now := _size(folder)) != before:
            before, since = now, time.monotonic()


def _is_kept(record: RunRecord) -> bool:
    """Whether it has ended, and its companion has brought all that the node's disk held."""
    return record.has_ended and not record.attempt.undrained


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _hpcrun(workspace: Path, run_id: str) -> Points:
    store = Workspace(workspace).session.store
    facts, _ = store.facts(store.paths(run_id), JournalKind.METRICS)
    return {(fact.data["m"], fact.data["s"]) for fact in facts if fact.kind == "metric"}


def _mlflow(folder: Path, run_id: str) -> Points:
    asked = "SELECT key, step FROM metrics WHERE run_uuid = ?"
    with sqlite3.connect(folder / "mlflow.db") as database:
        return {(name, step) for name, step in database.execute(asked, (run_id,))}


def _by_program(kind: str, program: str) -> Callable[[Path, str], Points]:
    def read(folder: Path, run_id: str) -> Points:
        words = [interpreter(kind), "-c", program, str(folder)]
        env = environment(folder)
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return {(name, step) for name, step in json.loads(done.stdout)}

    return read


_READERS: Mapping[str, Callable[[Path, str], Points]] = {
    "hpcrun": _hpcrun,
    "mlflow": _mlflow,
    "trackio": _by_program("trackio", _TRACKIO),
    "wandb": _by_program("wandb", _WANDB),
    "h5py": _by_program("h5py", _H5PY),
}
