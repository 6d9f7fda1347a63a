"""What speaks against a submission without forbidding it, and where that is told."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from hpcrun.workflow.doubts import doubts_of_history, doubts_of_target
from hpcrun.workflow.doubts import doubts_of_site as doubts
from tests.commands import hpcrun
from tests.make_plan import from_yaml, plan, shipped, site

SITE = """\
schema_version: 1
id: lab
default_target: gpu
valid_until: "2026-10-15"
ssh:
  endpoints:
    gpu: {host: gpu.lab.example, arch: aarch64}
    any: {host: any.lab.example}
    cross: {host: cross.lab.example, arch: x86_64}
launch: {discouraged: {srun: it is slow here}}
targets:
  gpu: {endpoint: gpu, node: {arch: aarch64}}
  any: {endpoint: any, node: {arch: aarch64}}
  gone: {endpoint: elsewhere, node: {arch: aarch64}}
  same: {node: {arch: aarch64}}
  cpu: {endpoint: gpu}
  cross: {endpoint: cross, node: {arch: aarch64}}
"""
ASKED = "script: train.py\n"
MPI = ASKED + "distributed_job_config: {kind: mpi, node_count: 2}\n"
ELSEWHERE = "the nodes of lab/{} are aarch64 and this host is x86_64: submit from {}, where"


def told(target: str, asked: str = ASKED, day: str = "2026-10-15", arch: str = "x86_64") -> str:
    lab = site(SITE)
    made = plan(from_yaml(asked), lab, target)
    return "\n".join(doubts(made, lab, date.fromisoformat(day), arch))


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("gpu", "gpu.lab.example"),
        ("any", "any.lab.example"),
        ("gone", "its login host elsewhere"),
    ],
)
def test_a_login_host_of_another_architecture_is_told(target: str, where: str) -> None:
    assert told(target).startswith(ELSEWHERE.format(target, where))
    assert told(target, arch="aarch64") == ""


@pytest.mark.parametrize("target", ["same", "cpu", "cross"])
def test_nothing_is_said_of_what_the_site_does_not_tell(target: str) -> None:
    assert told(target) == ""


def test_a_discouraged_launcher_is_told_with_the_sites_reason() -> None:
    assert told("cpu", MPI) == "launcher srun is discouraged at lab: it is slow here"
    torchrun = ASKED + (
        "resources: {account: proj, gpus_per_node: 8, time: 1h}\n"
        "distributed_job_config:\n"
        "  {kind: pytorch, launcher: torchrun, node_count: 2, process_count: 16}\n"
    )
    frontier = shipped("olcf-frontier")
    made = plan(from_yaml(torchrun), frontier, "batch")
    (said,) = doubts(made, frontier, date(2026, 1, 1), "x86_64")
    assert said.startswith("launcher torchrun is discouraged at olcf-frontier: its start takes")


@pytest.mark.parametrize(
    ("target", "asked", "said"),
    [
        ("{kind: gpu, node: {gpus: 4}}", "", "is there for its GPUs, and the run asks for none"),
        ("{kind: gpu, node: {gpus: 4}}", "resources: {gpus_per_node: 1}\n", ""),
        ("{kind: gpu, node: {gpus: 0}}", "", ""),
        ("{kind: cpu}", "resources: {gpus_per_node: 1}\n", "and the run asks for 1 GPUs"),
        ("{kind: cpu}", "", ""),
        ("{preemptible: true}", "requeue: {allowed: false}\n", "it would end there"),
        ("{preemptible: true}", "requeue: {allowed: true}\n", ""),
        ("{preemptible: true}", "", ""),
    ],
)
def test_what_a_target_is_not_there_for_is_told(target: str, asked: str, said: str) -> None:
    lab = site(f"schema_version: 1\nid: lab\ntargets: {{t: {target}}}\n")
    made = plan(from_yaml(ASKED + asked), lab, "t")
    found = list(doubts_of_target(made, lab))
    assert len(found) == bool(said)
    assert said in "".join(found)


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("{path: /lab, purge: {days: 10}}", "is in work, from which files go after 10 days"),
        ("{env: WORK, writable_on_compute: false}", "is in work, where jobs cannot write"),
        ("{path: /lab, scope: node}", "is in work, which each node has for itself"),
        ("{path: /lab/other, purge: {days: 10}}", ""),
        ("{env: NONE, purge: {days: 10}}", ""),
    ],
)
def test_a_history_where_it_would_be_lost_is_told(root: str, said: str) -> None:
    lab = site(f"{SITE}storage: {{roots: {{work: {root}}}}}\n")
    made = plan(from_yaml(ASKED), lab, workspace="/lab/history")
    told = "\n".join(doubts_of_history(made, lab, {"WORK": "/lab"}))
    assert told.startswith("the history /lab/history is in" if said else "") and said in told
    assert bool(told) == bool(said)


def test_a_site_is_said_to_have_closed_from_the_next_day_on() -> None:
    assert told("cpu", day="2026-10-15") == ""
    assert told("cpu", day="2026-10-16") == "lab was said to close on 2026-10-15"


def test_submit_tells_them_on_standard_error_and_runs(project: Path) -> None:
    sites = project / ".hpcrun/site_configs"
    sites.mkdir(parents=True)
    (sites / "local.yaml").write_text(
        "inherits: [local]\nvalid_until: 2026-10-15\nlaunch: {discouraged: {plain: use srun}}\n"
    )
    done = hpcrun("submit", "--json")
    assert json.loads(done.stdout)["target"] == "local"
    assert done.stderr == (
        "hpcrun: launcher plain is discouraged at local: use srun\n"
        "hpcrun: local was said to close on 2026-10-15\n"
    )
    assert hpcrun("render").stderr == ""
    (line,) = (line for line in hpcrun("sites", "list").stdout.splitlines() if "local" in line)
    assert line.split("\t")[2] == "was to close on 2026-10-15"
    hpcrun("wait", "@last")


def test_what_a_site_forbids_is_written_by_force_alone_and_told(project: Path) -> None:
    sites = project / ".hpcrun/site_configs"
    sites.mkdir(parents=True)
    rules = "scheduler: {directives: {forbid: {--nodelist: nodes are ours to choose}}}\n"
    (sites / "test-cluster.yaml").write_text(f"inherits: [test-cluster]\n{rules}")
    asked = ("-t", "test-cluster", "--set", "sbatch.nodelist=n1")
    refused = hpcrun("render", *asked, code=3)
    assert "test-cluster does not accept --nodelist (nodes are ours to choose)" in refused.stderr
    assert "#SBATCH --nodelist=n1\n" in hpcrun("render", "--force", *asked).stdout
    told = hpcrun("explain", "--force", *asked).stdout
    assert "written, though test-cluster does not accept --nodelist: nodes are ours" in told
    lifted = [line for line in told.splitlines() if line.endswith("--force")]
    assert len(lifted) == 1
