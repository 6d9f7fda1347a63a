"""Images, charts and children of jobs on the real cluster, and what is left when one is killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcrun.workflow.liveness import SILENCE
from tests.lab import Lab, eventually

pytestmark = pytest.mark.cluster

RUN_YAML = """\
script: train.py
compute_target: test-cluster
experiment: family
distributed_job_config: {kind: mpi, node_count: 2, process_count_per_node: 1}
resources: {time: 10m}
"""

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4000

WHOLE = f"""\
from hpcrun import Run

run = Run.get_context()
with open(f"plot-{{run.rank}}.png", "wb") as file:
    file.write({PNG[:8]!r} + bytes(range(256)) * 4000)
run.log_image("plot", f"plot-{{run.rank}}.png")
run.log_predictions("chart", {{"schema_type": "predictions", "schema_version": "v1", "data": {{
    "bin_averages": [1], "bin_errors": [2], "bin_counts": [3], "bin_edges": [0, 1]}}}})
for fold in range(3):
    with run.child_run(f"fold {{fold}}") as child:
        child.log("score", fold)
run.upload_file("weights", f"plot-{{run.rank}}.png")
run.register_model("family", "weights")
"""

KILLED = """\
import time
from hpcrun import Run

run = Run.get_context(rank_guard=False)
if run.rank == 0:
    child = run.child_run("left")
    for step in range(1000):
        child.log("x", step)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture(params=["srun", "plain"])
def yaml(request: pytest.FixtureRequest) -> str:
    if request.param == "srun":
        return RUN_YAML
    return "".join(line for line in RUN_YAML.splitlines(True) if not line.startswith("dist"))


def test_a_job_with_images_children_and_a_model(lab: Lab, yaml: str) -> None:
    source = lab.folder("family-whole", {"run.yaml": yaml, "train.py": WHOLE})
    run = lab.wait(lab.submit(source))
    assert (run["status"], run["lost_records"], run["bad_lines"]) == ("Completed", 0, 0)
    metrics = lab.json("metrics", run["run_id"])
    assert metrics["chart"]["data"]["bin_counts"] == [3]
    copy = lab.json("download", run["run_id"], metrics["plot"], cwd=source)
    assert Path(copy["path"]).read_bytes() == PNG
    digests = {f["name"]: f["sha256"] for f in lab.json("files", run["run_id"])}
    assert digests[metrics["plot"]] == digests["weights"] is not None
    assert len(run["children"]) == 3 and len(run["models"]) == 1
    for fold, child_id in enumerate(run["children"]):
        child = lab.json("show", child_id)
        assert (child["status"], child["parent"]) == ("Completed", run["run_id"])
        assert child["attempts"][0]["undrained"] == []
        assert lab.json("metrics", child_id) == {"score": fold}
        assert child["attempts"][0]["host"] == run["attempts"][0]["host"]
    deleted = lab.json("delete", "--yes", run["run_id"])
    assert {r["run_id"] for r in deleted["runs"]} == {run["run_id"], *run["children"]}
    assert not Path(run["record"]).exists() and not Path(run["files"]).exists()


def test_a_child_of_a_job_that_is_killed(lab: Lab, yaml: str) -> None:
    source = lab.folder("family-killed", {"run.yaml": yaml, "train.py": KILLED})
    run_id = lab.submit(source)
    eventually(lambda: "ready" in lab.run("logs", run_id).stdout)
    (child_id,) = eventually(lambda: lab.json("show", run_id)["children"])
    eventually(lambda: lab.json("show", child_id)["status"] == "Running")
    eventually(lambda: lab.json("metrics", child_id).get("x") == list(range(1000)))
    lab.ok("cancel", run_id)
    assert lab.wait(run_id)["status"] == "Canceled"
    child = eventually(lambda: ended(lab, child_id))
    assert (child["status"], child["verdict"]["cause"]) == ("Canceled", "canceled")
    # Slurm leaves its companion no time: it may not get to say that this was all.
    assert lab.json("metrics", child_id)["x"] == list(range(1000))


def test_a_child_whose_companion_was_killed_with_the_job(lab: Lab) -> None:
    yaml = RUN_YAML
    source = lab.folder("family-gone", {"run.yaml": yaml, "train.py": KILLED})
    run_id = lab.submit(source)
    eventually(lambda: "ready" in lab.run("logs", run_id).stdout)
    (child_id,) = eventually(lambda: lab.json("show", run_id)["children"])
    job_id = lab.json("show", run_id)["job_id"]
    lab.cluster.run("alice", ["scancel", "--signal=KILL", "--full", job_id])
    lab.wait(run_id)
    child = lab.json("show", child_id)
    if child["status"] == "Running":
        look_again_later(lab, child_id)
        child = lab.json("show", child_id)
    assert (child["status"], child["verdict"]["cause"]) == ("Failed", "lost")


def look_again_later(lab: Lab, run_id: str) -> None:
    """alice's last look at the run is as long ago as silence lasts."""
    file = lab.cluster.home("alice") / ".cache/hpcrun/heartbeats.json"
    seen = json.loads(file.read_text())
    count, when = seen[f"{run_id}/1.0"]
    file.write_text(json.dumps({**seen, f"{run_id}/1.0": [count, when - SILENCE]}))


def ended(lab: Lab, run_id: str) -> dict[str, object] | None:
    run = lab.json("show", run_id)
    return run if run["verdict"] is not None else None
