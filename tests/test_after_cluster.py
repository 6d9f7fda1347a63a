"""Runs that wait for others, on the real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import Lab, eventually

pytestmark = pytest.mark.cluster

RUN_YAML = """\
script: train.py
compute_target: test-cluster
experiment: after
resources: {time: 5m}
"""


def test_runs_wait_for_runs(lab: Lab) -> None:
    source = lab.folder("after", {"run.yaml": RUN_YAML, "train.py": "print('ran')\n"})
    go = source / "go"
    wait = (
        f"import os, sys, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.1)\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    parents = lab.folder("after-parents", {"run.yaml": RUN_YAML, "train.py": wait})
    good, bad = lab.submit(parents, "--", "0"), lab.submit(parents, "--", "3")

    after_good = lab.submit(source, "--after", good)
    after_any_end = lab.submit(source, "--after", bad, "--set", "after.condition=afterany")
    after_one = lab.submit(source, "--after", bad, "--after", good, "--set", "after.any_of=true")
    after_bad = lab.submit(source, "--after", bad)
    released = lab.submit(source, "--after", bad)
    # As if Slurm had forgotten what the run waits for.
    job = lab.json("show", released)["job_id"]
    words = ["scontrol", "update", f"JobId={job}", "Dependency="]
    assert lab.cluster.run("alice", words).returncode == 0
    eventually(lambda: lab.json("show", released)["status"] != "Queued")
    assert lab.json("show", after_good)["status"] == "Queued"
    assert "Dependency" in lab.ok("show", after_good)

    go.touch()
    for run_id in (after_good, after_any_end, after_one):
        assert lab.wait(run_id)["status"] == "Completed", lab.ok("show", run_id)
    for run_id in (after_bad, released):
        run = lab.wait(run_id)
        assert run["status"] == "Canceled", lab.ok("show", run_id)
        assert not Path(run["files"], "user_logs/1.0/rank-0.log").exists()
    assert f"run {bad}, which it waits for, is Failed" in lab.ok("show", released)
    refused = lab.run("submit", "--after", bad, cwd=source)
    assert refused.returncode == 3 and "is Failed" in refused.stderr

    # Submitted once more, it waits for what now goes on.
    go.unlink()
    lab.ok("resubmit", bad)
    lab.ok("resubmit", released)
    assert lab.json("show", released)["status"] == "Queued"
    go.touch()
    assert lab.wait(released)["status"] == "Canceled"
