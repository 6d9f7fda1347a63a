"""Sealing on Slurm: not while the job waits, nor while it may be requeued."""

from __future__ import annotations

import json
import subprocess

import pytest

from hpcrun.errors import StoreError
from tests.lab import eventually
from tests.submission import Place

pytestmark = pytest.mark.cluster


def waits(done: subprocess.CompletedProcess[str]) -> None:
    """A refusal to seal, for no other reason than that Slurm remembers the job."""
    assert "may be requeued" in done.stderr, done.stderr


def test_a_run_is_sealed_once_slurm_has_forgotten_its_job(place: Place) -> None:
    run_id = place.json("submit")["run_id"]
    before = eventually(lambda: run if (run := place.json("show", run_id))["verdict"] else None)
    metrics = place.json("metrics", run_id)
    done = place.run("store", "seal", run_id)
    assert done.returncode == StoreError.exit_code
    assert f"its job {before['job_id']} may be requeued" in done.stderr
    assert (place.active / run_id / "run.json").exists()
    with place.lab.cluster.short_memory():
        done = eventually(
            lambda: (
                done
                if (done := place.run("store", "seal", "--json", run_id)).returncode == 0
                else waits(done)
            ),
            240,
        )
    (sealed,) = json.loads(done.stdout)
    assert sealed["sealed"].endswith(f"{run_id}.h5")
    after = place.json("show", run_id)
    assert after.pop("record") == sealed["sealed"]
    before.pop("record")
    assert (after, place.json("metrics", run_id)) == (before, metrics)
    assert [run["run_id"] for run in place.json("list")] == [run_id]


def test_a_run_that_waits_is_not_sealed(place: Place) -> None:
    later = place.script("sbatch", 'exec /usr/bin/sbatch --begin=now+1hour "$@"')
    assert place.run("submit", bin=later).returncode == 0
    ((run_id, run),) = place.runs().items()
    done = place.run("store", "seal", run_id)
    assert (done.returncode, done.stdout) == (StoreError.exit_code, "")
    assert f"run {run_id} cannot be sealed: it is Queued" in done.stderr
    assert json.loads(place.run("store", "seal", "--json").stdout) == []
    words = ["scancel", run["job_id"]]
    assert place.lab.cluster.run("alice", words).returncode == 0
    eventually(lambda: place.json("show", run_id)["verdict"])
