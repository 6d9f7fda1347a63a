"""A training script's processes where no framework is loaded: facts, one process, clear errors.

Over real worlds, of mpi4py and of torch, they are tried in test_launchers_cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import pytest

from hpcrun import distributed
from hpcrun.metrics.world import device_of
from tests.metrics_job import VERSIONS, Job, interpreter
from tests.test_metrics_ranks import HYDRA, OPEN_MPI, STEP, TORCH

FACTS = """
import sys
before = set(sys.modules)
from hpcrun import distributed
print(tuple(distributed.ranks()))
new = {name.partition(".")[0] for name in set(sys.modules) - before}
assert not new & {"torch", "mpi4py", "numpy", "jax", "tensorflow", "horovod"}, new
"""

ALONE = """
from hpcrun import distributed
from hpcrun.metrics import Run

class Tensor:
    def __float__(self):
        return 0.5
    def item(self):
        return 0.5

for how in ("mean", "sum", "min", "max"):
    assert distributed.reduce(3, how) == 3.0
assert distributed.reduce(Tensor()) == 0.5
run = Run.get_context()
run.log("loss", 0.25, step=3, reduce="mean")
run.log("loss", Tensor(), reduce="max")
print(run.get_metrics())
for value, how in ((1, "median"), ("1", "sum"), ([1, 2], "sum")):
    try:
        run.log("loss", value, reduce=how)
    except (TypeError, ValueError) as caught:
        print(type(caught).__name__, caught)
"""

MANY = """
from hpcrun.metrics import Run
try:
    Run.get_context().log("loss", 1, reduce="mean")
except Exception as error:
    print(type(error).__name__, error)
print(Run.get_context().get_metrics())
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path).make()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("environment", "facts"),
    [
        ({}, (0, 1, 0, 1, 0)),
        (TORCH, (5, 8, 1, 4, 1)),
        (STEP, (9, 11, 1, 3, 2)),
        (OPEN_MPI, (6, 8, 2, 4, 1)),
        (HYDRA, (3, 4, 1, 2, 1)),
    ],
)
def test_rank_facts_without_importing_anything(
    job: Job, version: str, environment: dict[str, str], facts: tuple[int, ...]
) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    assert job.python(FACTS, python=python, **environment).stdout == f"{facts}\n"


def test_one_process_needs_no_world(job: Job) -> None:
    assert job.python(ALONE).stdout.splitlines() == [
        "{'loss': [0.25, 0.5]}",
        "ValueError 'median' is no reduction: known are mean, sum, min, max",
        "TypeError only a number can be reduced over processes, not a str",
        "TypeError only a number can be reduced over processes, not a list",
    ]


@pytest.mark.parametrize("rank", ["0", "3"])
def test_several_processes_without_a_world_are_told_so(job: Job, rank: str) -> None:
    said, metrics = job.python(MANY, RANK=rank, WORLD_SIZE="4").stdout.splitlines()
    assert said.startswith("WorldError 4 processes have no way to reduce a value over all of them")
    assert "torch.distributed.init_process_group()" in said and metrics == "{}"


@pytest.mark.parametrize(
    "value", [numpy.float32(2.5), numpy.array(2.5), numpy.array([2.5]), numpy.array([[2.5]])]
)
def test_an_array_of_one_element_is_reduced_as_it_is_logged(value: Any) -> None:
    assert distributed.reduce(value) == 2.5


@pytest.mark.parametrize("value", [numpy.array([1.0, 2.0]), numpy.array([])])
def test_an_array_of_several_elements_is_not_reduced(value: Any) -> None:
    with pytest.raises(TypeError, match="not a ndarray"):
        distributed.reduce(value)


@pytest.mark.parametrize(
    ("backend", "device"),
    [
        ("nccl", "cuda"),
        ("gloo", "cpu"),
        ("mpi", "cpu"),
        ("undefined", "cpu"),  # torch chooses for each device
        ("xccl", "xpu"),
        ("cuda:nccl", "cuda"),
        ("cpu:gloo,cuda:nccl", "cpu"),
    ],
)
def test_a_world_speaks_over_tensors_that_its_backend_takes(backend: str, device: str) -> None:
    assert device_of(backend) == device
