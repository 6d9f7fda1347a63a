"""Attempts on the real cluster: resubmission, the signal before the limit, requeues."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import Lab

pytestmark = pytest.mark.cluster

RUN_YAML = """\
script: train.py
compute_target: test-cluster
experiment: attempts
resources: {time: 10m}
"""


def folder(lab: Lab, name: str, text: str, more: str = "") -> Path:
    return lab.folder(f"attempts-{name}", {"run.yaml": RUN_YAML + more, "train.py": text})


def test_a_run_is_submitted_once_more(lab: Lab) -> None:
    text = (
        "import os\nfrom hpcrun import Run\nrun = Run.get_context()\n"
        "first = not os.path.exists('outputs/state')\n"
        "for step in (range(3) if first else range(2, 5)): run.log('loss', step, step=step)\n"
        "open('outputs/state', 'a').write('x')\n"
        "raise SystemExit(3 if first else 0)\n"
    )
    run = lab.wait(lab.submit(folder(lab, "resubmit", text)))
    assert run["status"] == "Failed"
    lab.ok("resubmit", run["run_id"])
    run = lab.wait(run["run_id"])
    assert run["status"] == "Completed", lab.ok("show", run["run_id"])
    first, second = run["attempts"]
    assert (first["attempt"], second["attempt"]) == ("1.0", "2.0")
    assert first["job_id"] != second["job_id"]
    assert lab.json("metrics", run["run_id"]) == {"loss": [0, 1, 2, 3, 4]}
    names = {file["name"] for file in lab.json("files", run["run_id"])}
    assert {"user_logs/batch-2.log", "user_logs/1.0/rank-0.log", "outputs/state"} <= names
    refused = lab.run("resubmit", run["run_id"], user="bob")
    assert refused.returncode == 7 and "alice's" in refused.stderr
