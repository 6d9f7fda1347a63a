"""A site file that the cluster's own Slurm tells, used at once."""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab
from tests.submission import Place, make_place

pytestmark = pytest.mark.cluster


@pytest.fixture
def place(lab: Lab) -> Iterator[Place]:
    with make_place(lab, "discovered") as place:
        yield place


TOLD = """
import json, os
names = ("MASTER_ADDR", "MASTER_PORT", "SLURM_CPU_BIND_TYPE", "GONE", "KEPT", "LOCAL_RANK")
names += ("CUDA_VISIBLE_DEVICES", "OF_THE_SUBMITTER")
with open("outputs/%s.json" % os.environ["RANK"], "w") as file:
    json.dump({name: os.environ.get(name) for name in names}, file)
"""

RULES = """
schema_version: 1
id: ruled
inherits: [test-cluster]
setup: [export KEPT=kept GONE=gone]
scheduler:
  export: none
  accounting: false
  submit_from: login
  memory: {default: 512M}
  poll: {submit_gap_seconds: 0.1}
launch:
  unset: [GONE]
  gpu_visibility: localid
  cpu_bind: none
  gres_flags: disable-binding
  master_address: {resolve: ipv4}
  master_port: {command: "echo 23471"}
"""


def test_a_site_tells_where_the_first_process_is_and_what_srun_binds(lab: Lab) -> None:
    distributed = {"kind": "mpi", "node_count": 2, "process_count_per_node": 2}
    request = {"script": "told.py", "compute_target": "ruled/main"}
    request |= {"distributed_job_config": distributed, "resources": {"gpus_per_node": 2}}
    files = {"told.py": TOLD, "run.yaml": json.dumps(request)}
    folder = lab.folder("ruled", {**files, ".hpcrun/site_configs/ruled.yaml": RULES})
    within = lab.run("submit", cwd=folder, env={"SLURM_JOB_ID": "7"})
    assert within.returncode == 7
    assert "ruled takes jobs from its login hosts alone, and this is within job 7" in within.stderr
    run = lab.wait(lab.submit(folder))
    assert run["status"] == "Completed", run["verdict"]
    found = sorted(Path(run["files"], "outputs").glob("*.json"))
    told = [json.loads(file.read_text()) for file in found]
    # Each sees the GPU of its local rank, and what the batch script has; that is not what it was
    # submitted with, nor what the site takes away.
    gpus = [(each.pop("LOCAL_RANK"), each.pop("CUDA_VISIBLE_DEVICES")) for each in told]
    assert gpus == [("0", "0"), ("1", "1"), ("0", "0"), ("1", "1")]
    one, *others = told
    assert others == [one] * 3
    assert (one["KEPT"], one["GONE"], one["OF_THE_SUBMITTER"]) == ("kept", None, None)
    paced = lab.cluster.run("alice", ["bash", "-c", "ls ~/.cache/hpcrun/submissions"])
    assert "ruled.login" in paced.stdout.split()
    script = Path(run["record"], "script.sh").read_text()
    assert "#SBATCH --export=NONE\n" in script and "#SBATCH --mem=512M\n" in script
    assert str(ipaddress.IPv4Address(one["MASTER_ADDR"])) == one["MASTER_ADDR"]
    assert (one["MASTER_PORT"], one["SLURM_CPU_BIND_TYPE"]) == ("23471", "none")


@contextlib.contextmanager
def limits(place: Place, of_users: Sequence[str]) -> Iterator[None]:
    """Limits of each user's jobs in the QOS that all have."""

    def modify(*fields: str) -> None:
        words = ["sacctmgr", "--immediate", "modify", "qos", "normal", "set", *fields]
        assert place.lab.cluster.run("root", words).returncode == 0

    modify(*of_users)
    try:
        yield
    finally:
        modify(*(f"{field.partition('=')[0]}=-1" for field in of_users))


def test_a_site_is_discovered_and_submitted_to_at_once(place: Place) -> None:
    def told(*words: str) -> Any:
        done = place.run(*words, "--json", XDG_CONFIG_HOME=str(place.source / "config"))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    few = ["MaxSubmitJobsPerUser=60", "MaxJobsPerUser=50"]
    with limits(place, few):
        found = told("sites", "discover", "--name", "found")
    assert found["targets"] == [f"found/{name}" for name in ("main", "low", "high", "short")]
    assert found["file"] == str(place.source / "config/hpcrun/site_configs/found.yaml")
    for line in (
        "max_jobs: 60",
        "max_running_jobs: 50",
        "accounting: true",
        "max_array_size: 1001",
    ):
        assert f"\n  {line}\n" in found["text"]
    assert "  requeue: {default: true}\n" in found["text"]
    assert "override: {scheduler: {requeue: {signal: TERM, notice_seconds: 5}}}" in found["text"]
    assert [text for text in found["unknown"] if "submit_from" in text]
    checked = told("sites", "check", found["file"])
    assert {one["grade"] for one in checked} == {"ok"}, checked
    two_nodes = "distributed_job_config={kind: mpi, node_count: 2}"
    run = told("submit", "-t", "found/low", "--set", two_nodes)
    run = told("wait", run["run_id"])
    assert (run["status"], len(run["attempts"][0]["nodes"])) == ("Completed", 2)
