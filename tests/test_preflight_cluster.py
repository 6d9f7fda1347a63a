"""Preflights on a cluster: each failure of a launch, side by side, and a launch that is well."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ruamel.yaml import YAML

from tests.cluster.layout import NODES
from tests.lab import Lab, eventually

pytestmark = pytest.mark.cluster

SITE = Path(__file__).resolve().parents[1] / "site_configs/test-cluster.yaml"

TRAIN = """\
import os
open("outputs/ran-" + os.environ["RANK"], "w").close()
"""

RUN = """\
script: train.py
compute_target: {name}
experiment: preflight
environment: {venv}
distributed_job_config: {distributed}
resources: {{time: 5m{resources}}}
requeue: {{exit_code: 1}}
"""

BLOCK = """\
{{% extends "parent/sbatch.sh.j2" %}}
{{% block stage %}}
{lines}
{{% endblock %}}
"""

# What hpcrun starts does not end with this shell, but with the job.
TAKEN = """\
coproc taker { exec /usr/bin/python3 -c 'import socket, time
door = socket.create_server(("", 0))
print(door.getsockname()[1], flush=True)
time.sleep(600)'; }
read -r HPCRUN_MASTER_PORT <&"${taker[0]}\""""

# Slurm takes what it says of variables for the task's.
PROLOG = """\
#!/bin/sh
[ "$SLURM_NODEID" = 0 ] || echo 'unset CUDA_VISIBLE_DEVICES
unset ROCR_VISIBLE_DEVICES
unset ZE_AFFINITY_MASK'
"""

# A node's own clock is the machine's, as it is with all of them; this one is 100 s ahead of it.
CLOCK = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int clock_gettime(clockid_t which, struct timespec *told)
{
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(which, told);
    if (which == CLOCK_REALTIME)
        told->tv_sec += 100;
    return status;
}
"""

OTHER_CLOCK = """\
#!/bin/sh
[ "$SLURM_NODEID" = 0 ] || echo export LD_PRELOAD={folder}/clock.so
"""

# A task that is not begun, as on a node whose disk or Python is gone.
SILENT = """\
#!/bin/sh
[ "$SLURM_NODEID" = 0 ]
"""

MPI = "{kind: mpi, node_count: 2, process_count_per_node: 2}"
SRUN = "{kind: pytorch, node_count: 2, process_count: 4, launcher: srun}"
TORCHRUN = "{kind: pytorch, node_count: 2, process_count: 4, launcher: torchrun}"


class Case(NamedTuple):
    """A run. said, cure: what stands in the verdict's sentence; none: it completes.

    launch: what its site file says of launches. lines: what its site's template does before them.
    small: whether the nodes' own disk is small.
    """

    distributed: str
    said: str = ""
    cure: str = ""
    launch: Mapping[str, Any] = {}
    lines: str = ""
    more: str = ""
    resources: str = ""
    small: bool = False


LOOPBACK = "export HPCRUN_MASTER_ADDR=localhost"

CASES = {
    "no-type": Case(
        MPI, "no rank began: srun ended with", "srun --mpi=list", {"mpi": {"type": "pmi9"}}
    ),
    "no-pmi": Case(
        MPI,
        " srun (--mpi=none)",  # by MPI and release: it cannot begin, or each rank is alone
        "mpi.type",
        {"mpi": {"type": "none"}},
    ),
    "loopback": Case(
        SRUN,
        "localhost is 127.0.0.1 on {first}, {second}, which reaches no other node",
        "/etc/hosts",
        lines=LOOPBACK,
    ),
    "port": Case(
        SRUN, "of {first}, which is MASTER_PORT, is taken", "hpcrun resubmit", lines=TAKEN
    ),
    "port-of-server": Case(
        "{kind: tensorflow, worker_count: 2, parameter_server_count: 1}",
        "of {first}, which is in TF_CONFIG, is taken",
        "hpcrun resubmit",
        lines=f"{TAKEN}\nHPCRUN_MASTER_PORT=$((HPCRUN_MASTER_PORT - 1))",
    ),
    "no-gpu": Case(
        TORCHRUN,
        "on {second} no rank sees a GPU, and 2 on each node were asked for",
        'exclude: "{second}"',
        {"srun_args": ["--kill-on-bad-exit=1", "--task-prolog={folder}/prolog"]},
        resources=", gpus_per_node: 2",
    ),
    "clock": Case(
        SRUN,
        "the clock of {second} is ",
        "staff can set it",
        {"srun_args": ["--kill-on-bad-exit=1", "--task-prolog={folder}/other-clock"]},
    ),
    "silent": Case(
        SRUN,
        "2 of 4 processes began, and none on {second} did",
        'exclude: "{second}"',
        {"srun_args": ["--task-prolog={folder}/silent"]},
    ),
    "disk": Case(
        SRUN,
        "31 MiB left, and 64 MiB are needed",
        "choose another `working_directory`",
        more="working_directory: node\n",
        small=True,
    ),
    "off": Case(SRUN, lines=LOOPBACK, more="preflight: false\n"),
    "well": Case(MPI),
    "well-mpirun": Case(MPI, launch={"mpi": {"type": "pmix", "starter": "mpirun"}}),
    "well-gpu": Case(SRUN, resources=", gpus_per_node: 2"),
}


@pytest.fixture(scope="module")
def small_disk(lab: Lab) -> Iterator[str]:
    """A disk of 32 MiB that each node has to itself."""
    folder = "/run/small"
    for node in NODES:
        mount = f"mkdir {folder} && mount -t tmpfs -o size=32m,mode=1777 small {folder}"
        done = lab.cluster.run("root", ["sh", "-c", mount], node=node.name)
        assert done.returncode == 0, done.stderr
    yield folder
    for node in NODES:
        lab.cluster.run("root", ["umount", "--lazy", folder], node=node.name)
        lab.cluster.run("root", ["rmdir", folder], node=node.name)


@pytest.fixture(scope="module")
def ends(lab: Lab, small_disk: str) -> Mapping[str, Any]:
    """How they all ended."""
    folder = lab.cluster.home("alice") / "work/preflight"
    prologs = {
        "prolog": PROLOG,
        "other-clock": OTHER_CLOCK.format(folder=folder),
        "silent": SILENT,
    }
    files = {"train.py": TRAIN, "clock.c": CLOCK, ".hpcrun/config.json": "{}", **prologs}
    for name, case in CASES.items():
        site = YAML(typ="safe").load(SITE)
        told = json.loads(json.dumps(case.launch).replace("{folder}", str(folder)))
        mpi = {**site["launch"]["mpi"], **told.pop("mpi", {})}
        site = {**site, "id": name, "launch": {**site["launch"], **told, "mpi": mpi}}
        if case.small:
            site["storage"] = {"node_tmp": small_disk}
        files[f".hpcrun/site_configs/{name}.yaml"] = json.dumps(site)
        if case.lines:
            text = BLOCK.format(lines=case.lines)
            files[f".hpcrun/site_configs/{name}/sbatch.sh.j2"] = text
        wanted = case._asdict() | {"name": name, "venv": lab.venv}
        files[f"{name}.yaml"] = RUN.format(**wanted) + case.more
    source = lab.folder("preflight", files)
    for prolog in prologs:
        (source / prolog).chmod(0o755)
    words = ["gcc", "-shared", "-fPIC", "-o", source / "clock.so", source / "clock.c", "-ldl"]
    subprocess.run(words, check=True)
    ids = {name: lab.submit(source, "-f", f"{name}.yaml") for name in CASES}

    def ended() -> Mapping[str, Any]:
        runs = {run["run_id"]: run for run in lab.json("list", "-n", "40", cwd=source)}
        found = {name: runs[run_id] for name, run_id in ids.items()}
        return found if all(run["ended"] for run in found.values()) else {}

    return dict(eventually(ended, 180))


def ran(run: Any) -> list[str]:
    return sorted(path.name for path in Path(run["files"], "outputs").glob("ran-*"))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.said])
def test_what_cannot_be_launched_is_told_by_node_and_cure(
    ends: Mapping[str, Any], name: str
) -> None:
    run, case = ends[name], CASES[name]
    verdict, (attempt,) = run["verdict"], run["attempts"]
    first, second = attempt["nodes"]
    assert (run["status"], verdict["cause"]) == ("Failed", "launch_failed"), verdict
    assert verdict["sentence"].startswith("preflight: ")
    assert case.said.format(first=first, second=second) in verdict["sentence"]
    assert case.cure.format(second=second) in verdict["sentence"]
    assert ran(run) == [] and attempt["ranks"] == []


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.said])
def test_where_all_is_well_or_nobody_looks_the_command_runs(
    ends: Mapping[str, Any], name: str
) -> None:
    run = ends[name]
    assert run["status"] == "Completed", run["verdict"]
    assert ran(run) == [f"ran-{rank}" for rank in range(4)]
    assert run["problems"] == []
