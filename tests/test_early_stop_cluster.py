"""Jobs that are told to stop before the command has begun, on the real cluster."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcrun.record import Fact, decode_page
from tests.lab import Lab, eventually

pytestmark = pytest.mark.cluster

WAIT = """\
{% extends 'parent/sbatch.sh.j2' %}
{% block stage %}
touch "$HPCRUN_FILES/waits"
until [ -e "$HPCRUN_FILES/go" ]; do sleep 0.05; done
{% endblock %}
"""
"""Before the launch each job waits until the test says go."""


def submit(lab: Lab, name: str, files: Mapping[str, str] = {}, **more: Any) -> Any:
    """A run of two nodes, n1 the first of them."""
    request = {
        "command": "true",
        "compute_target": "test-cluster",
        "distributed_job_config": {"kind": "mpi", "node_count": 2},
        "resources": {"time": "5m", "memory": "300M"},
        "sbatch": {"nodelist": "n1,n2"},
        **more,
    }
    source = lab.folder(f"early-{name}", {"run.yaml": json.dumps(request), **files})
    return lab.json("show", lab.submit(source))


def told(run: Any) -> Sequence[Fact]:
    """What the agent of its first attempt has told."""
    journal = Path(run["record"], "agent-1.0.jsonl")
    return decode_page(journal.read_bytes()).facts if journal.exists() else ()


def has_told(run: Any, kind: str) -> bool:
    return any(fact.kind == kind for fact in told(run))


def test_a_launch_that_slurm_refuses_since_it_ends_the_job_has_not_failed(lab: Lab) -> None:
    """The controller has ended the job, and its first node hears of that late."""
    wait = {".hpcrun/templates/sbatch.sh.j2": WAIT}
    runs = [submit(lab, f"refused-{on}", wait, preflight=on) for on in (True, False)]
    for run in runs:
        eventually(Path(run["files"], "waits").exists)
    lab.cluster.freeze_node("n1", True)
    try:
        for run in runs:
            lab.ok("cancel", run["run_id"])
            Path(run["files"], "go").touch()
        for run in runs:
            eventually(lambda run=run: has_told(run, "ended"))
    finally:
        lab.cluster.freeze_node("n1", False)
    for run in runs:
        ended = lab.wait(run["run_id"])
        assert ended["status"] == "Canceled", ended["verdict"]
        assert not has_told(run, "signal")


def test_data_that_come_are_left_alone_once_the_job_is_told_to_stop(lab: Lab) -> None:
    """On all nodes: an archive that takes minutes is no reason to wait for the KILL."""
    archive = lab.folder("early-archive", {}) / "packed.tar.gz"
    archive.write_bytes(long_archive())
    run = submit(lab, "data", inputs={"packed": {"path": str(archive), "mode": "unpack"}})
    eventually(lambda: len(left(lab, run, "*-data-*/inputs/packed/*")) == 2)
    lab.ok("cancel", run["run_id"])
    assert lab.wait(run["run_id"])["status"] == "Canceled"
    eventually(lambda: left(lab, run) == [])


def long_archive() -> bytes:
    """Of one file that stands in it a million times."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    part = gzip.compress(held.getvalue()[: tarfile.BLOCKSIZE] * 10_000)
    return part * 100


def left(lab: Lab, run: Any, pattern: str = "*") -> Sequence[str]:
    """What there is of a run on the disks of its nodes."""
    tmp = [lab.cluster.layout.tmp(node) for node in ("n1", "n2")]
    mark = run["run_id"].rpartition("_")[2]
    return [str(path) for each in tmp for path in each.glob(f"hpcrun-{mark}{pattern}")]
