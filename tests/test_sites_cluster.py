"""A site file that the cluster's own Slurm tells, used at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import Lab
from tests.submission import Place, make_place

pytestmark = pytest.mark.cluster


@pytest.fixture
def place(lab: Lab) -> Iterator[Place]:
    with make_place(lab, "discovered") as place:
        yield place


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
