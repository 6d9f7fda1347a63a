"""A run of 10,000 × 5 points, as it lies in the history once it is sealed."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peer_run import BEGIN, points
from hpcrun.layout import METRICS_SUFFIX, Attempt
from hpcrun.record import Fact, encode
from hpcrun.store import FileStore
from hpcrun.store.sealing import seal


def sealed_run(store: FileStore, number: int) -> Path:
    """Its file; number: one of many."""
    seconds = BEGIN + number
    run_id = f"digits_{seconds}_{number:08x}"
    paths = store.create(request(run_id, seconds, store.user), "#!/bin/sh\n" * 100)
    Path(paths.journal("agent")).write_bytes(b"".join(map(encode, facts(seconds, False))))
    with Path(paths.record, "rank-0" + METRICS_SUFFIX).open("wb") as file:
        for step, time, values in points(number):
            for place, (name, value) in enumerate(values.items(), 1):
                data = {"m": name, "v": value, "s": step}
                number_of = len(values) * step + place
                file.write(encode(Fact("metric", Attempt(1), time + number, number_of, data)))
    return seal(store.stored(paths))


def request(run_id: str, seconds: int, user: str) -> dict[str, object]:
    """What was asked."""
    return {
        "run_id": run_id,
        "experiment": "digits",
        "user": user,
        "target": "mycluster/gpu",
        "created": seconds + 0.5,
        "tags": {"kind": "baseline", "seed": run_id[-3:]},
        "properties": {"ContentSnapshotId": run_id * 2, "azureml.git.commit": run_id},
        "launch": {"command": ["python", "train.py", "--epochs", "20", "--seed", run_id[-3:]]},
    }


def facts(seconds: int, failed: bool) -> list[Fact]:
    """What its agent told."""
    started = {"host": "n1", "job_id": str(seconds), "nodes": ["n1"]}
    ended = {"exit_code": int(failed), "cause": "exit_code" if failed else "completed"}
    return [
        Fact("started", Attempt(1), seconds + 5.0, 1, started, "agent"),
        Fact("rank_ended", Attempt(1), seconds + 60.0, 2, {"rank": 0, "status": 0}, "agent"),
        Fact("ended", Attempt(1), seconds + 61.0, 3, ended, "agent"),
    ]
