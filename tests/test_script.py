"""Scripts: whole ones compared byte for byte, and checked by bash and shellcheck.

UPDATE_GOLDEN=1 pytest tests/test_script.py    writes tests/golden/*.sh anew; read the difference.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from hpcrun.config import LAUNCHERS
from hpcrun.plan import Plan
from hpcrun.script import header_of
from tests.make_plan import SITE, TOLD, from_yaml, plan, script, shipped, site

GOLDEN = Path(__file__).with_name("golden")

REQUESTS: Mapping[str, tuple[str, str]] = {
    "plain_local": ("local", "script: train.py\narguments: [--lr, 1e-3, --name, it's a test]\n"),
    "srun_two_nodes": (
        "lab",
        "script: train.py\n"
        "distributed_job_config: {kind: mpi, node_count: 2, process_count_per_node: 4}\n"
        "resources: {gpus_per_node: 4, gpu_type: A100, cpus_per_task: 8, memory: 100G, time: 2h}\n",
    ),
    "node_local": (
        "lab",
        "script: train.py\nworking_directory: node\n"
        "distributed_job_config: {kind: mpi, node_count: 2}\n",
    ),
    "mpirun": (
        "lab",
        "script: train.py\n"
        "distributed_job_config:\n"
        "  {kind: mpi, node_count: 2, process_count_per_node: 2, launcher: mpirun}\n",
    ),
    "torchrun_two_nodes": (
        "lab",
        "script: train.py\narguments: [--epochs, 3]\n"
        "distributed_job_config: {kind: pytorch, node_count: 2, process_count: 8}\n"
        "resources: {gpus_per_node: 4, exclusive: true}\n",
    ),
    "torchrun_static": (
        "lab",
        "script: train.py\narguments: [--out, 'run-${{rank}}.txt']\n"
        "distributed_job_config:\n"
        "  {kind: pytorch, node_count: 2, process_count: 4, launcher: torchrun_static}\n",
    ),
    "torchrun_mpirun": (
        "masters",
        "script: train.py\nresources: {gpus_per_node: 4}\n"
        "distributed_job_config:\n"
        "  {kind: pytorch, node_count: 2, process_count: 8, launcher: torchrun_mpirun}\n",
    ),
    "torchrun_ibrun": (
        "told",
        "script: train.py\nresources: {gpus_per_node: 4}\n"
        "distributed_job_config: {kind: pytorch, node_count: 2, process_count: 8}\n",
    ),
    "srun_bound": (
        "masters",
        "script: train.py\nresources: {gpus_per_node: 4}\n"
        "distributed_job_config:\n"
        "  {kind: pytorch, node_count: 2, process_count: 8, launcher: srun}\n",
    ),
    "ibrun": (
        "tacc",
        "script: train.py\n"
        "distributed_job_config: {kind: mpi, node_count: 2, process_count_per_node: 4}\n",
    ),
    "tensorflow": (
        "lab",
        "script: train.py\n"
        "distributed_job_config: {kind: tensorflow, worker_count: 3, parameter_server_count: 2}\n",
    ),
    "tensorflow_workers": (
        "lab",
        "script: train.py\n"
        "distributed_job_config: {kind: tensorflow, worker_count: 2, parameter_server_count: 0}\n",
    ),
    "packed": (
        "lab",
        "script: train.py\nenvironment: {virtual_environment: /envs/torch, pack: sbcast}\n"
        "distributed_job_config: {kind: mpi, node_count: 2}\n",
    ),
    "packed_mpi4py": (
        "lab",
        "script: train.py\n"
        "environment: {virtual_environment: /envs/torch, pack: mpi4py, pack_failure: fail}\n"
        "distributed_job_config: {kind: pytorch, node_count: 2, process_count: 8}\n"
        "resources: {gpus_per_node: 4}\n",
    ),
    "command_line": (
        "lab",
        'command: |\n  python prepare.py && python train.py --name "it\'s" | tee outputs/log\n'
        "sbatch: {switches: 2, contiguous: null}\n"
        "mail: {on: [end, fail], address: ada@lab.example}\n",
    ),
    "secrets_modules_variables": (
        "lab",
        "script: train.py\n"
        "environment:\n"
        "  {name: gcc, modules: [gcc/12, cuda/12.4], environment_variables: {MODE: fast}}\n"
        'environment_variables: {NAME: a b, LINES_OF: "one\\ntwo"}\n'
        "secrets: {WANDB_API_KEY: /home/ada/it's the key}\n",
    ),
    "a_colon": (
        "lab",
        'command: [python, train.py, ":", it\'s]\n'
        "distributed_job_config: {kind: mpi, node_count: 2}\n",
    ),
}


MASTERS = SITE.replace(
    "launch:\n",
    "launch:\n  cpu_bind: cores\n  gpu_bind: none\n"
    "  master_address: {suffix: i, resolve: ipv4}\n  master_port: {command: get_free_port}\n",
)

SITES = {
    "lab": site(),
    "masters": site(MASTERS),
    "told": site(TOLD),
    "local": shipped("local"),
    "tacc": site(SITE.replace("starter: srun, type: pmix", "starter: ibrun")),
}


def of(name: str) -> Plan:
    where, text = REQUESTS[name]
    packed = "/lab/packs/torch.tar.gz" if name.startswith("packed") else None
    return plan(from_yaml(text), SITES[where], packed=packed)


@pytest.mark.parametrize("name", REQUESTS)
def test_scripts_are_as_they_were(name: str) -> None:
    text = script(of(name))
    file = GOLDEN / f"{name}.sh"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("name", REQUESTS)
def test_bash_and_shellcheck_find_nothing(name: str) -> None:
    file = GOLDEN / f"{name}.sh"
    done = subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    # SC2016: what stands in single quotes is meant to be expanded later.
    words = ["shellcheck", "--exclude=SC2016", str(file)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == ""


def test_every_golden_file_is_of_a_request() -> None:
    assert sorted(file.stem for file in GOLDEN.glob("*.sh")) == sorted(REQUESTS)


def test_the_launchers_that_ship_are_known() -> None:
    files = Path(__file__).parents[1].glob("templates/launchers/*.sh.j2")
    assert {file.name.removesuffix(".sh.j2") for file in files} == set(LAUNCHERS)


def test_the_header_ends_at_the_first_command() -> None:
    text = "#!/bin/bash\n#SBATCH -N1\n\n  # a comment\n\t\n#SBATCH -n1\n echo\n#SBATCH --late\n"
    assert header_of(text) == ("#SBATCH -N1", "#SBATCH -n1")


def test_one_process_puts_its_own_values_in_its_words_as_well() -> None:
    made = plan(from_yaml("script: train.py\narguments: ['${{rank}}']\n"))
    assert made.launch.launcher == "plain"
    assert "export HPCRUN_PLACEHOLDERS=2\n" in script(made)
