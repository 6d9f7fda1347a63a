"""A site file that the cluster's own Slurm tells, used at once."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
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
names = ("MASTER_ADDR", "MASTER_PORT", "SLURM_CPU_BIND_TYPE")
with open("outputs/%s.json" % os.environ["RANK"], "w") as file:
    json.dump({name: os.environ.get(name) for name in names}, file)
"""

RULES = """
schema_version: 1
id: ruled
inherits: [test-cluster]
launch:
  cpu_bind: none
  gpu_bind: none
  master_address: {resolve: ipv4}
  master_port: {command: "echo 23471"}
"""


def test_a_site_tells_where_the_first_process_is_and_what_srun_binds(lab: Lab) -> None:
    distributed = {"kind": "mpi", "node_count": 2}
    request = {"script": "told.py", "compute_target": "ruled/main"}
    request |= {"distributed_job_config": distributed, "resources": {"gpus_per_node": 1}}
    files = {"told.py": TOLD, "run.yaml": json.dumps(request)}
    folder = lab.folder("ruled", {**files, ".hpcrun/site_configs/ruled.yaml": RULES})
    run = lab.wait(lab.submit(folder))
    assert run["status"] == "Completed", run["verdict"]
    found = sorted(Path(run["files"], "outputs").glob("*.json"))
    one, two = [json.loads(file.read_text()) for file in found]
    assert one == two
    assert str(ipaddress.IPv4Address(one["MASTER_ADDR"])) == one["MASTER_ADDR"]
    assert (one["MASTER_PORT"], one["SLURM_CPU_BIND_TYPE"]) == ("23471", "none")


def test_a_site_is_discovered_and_submitted_to_at_once(place: Place) -> None:
    def told(*words: str) -> Any:
        done = place.run(*words, "--json", XDG_CONFIG_HOME=str(place.source / "config"))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    found = told("sites", "discover", "--name", "found")
    assert found["targets"] == [f"found/{name}" for name in ("main", "low", "high", "short")]
    assert found["file"] == str(place.source / "config/hpcrun/site_configs/found.yaml")
    two_nodes = "distributed_job_config={kind: mpi, node_count: 2}"
    run = told("submit", "-t", "found/low", "--set", two_nodes)
    run = told("wait", run["run_id"])
    assert (run["status"], run["attempts"][0]["nodes"]) == ("Completed", ["n1", "n2"])
