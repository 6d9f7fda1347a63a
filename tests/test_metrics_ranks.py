"""Tests of RankFacts: whose variables are believed, and what they tell."""

from __future__ import annotations

import pytest

from hpcrun.metrics import RankFacts

TORCH = {
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
    "NODE_RANK": "1",
}
STEP = {
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "9",
    "SLURM_NTASKS": "64",
    "SLURM_STEP_NUM_TASKS": "11",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "64", "SLURM_NODEID": "0"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "6",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_LOCAL_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_COMM_WORLD_NODE_RANK": "2",
}
HYDRA = {"PMI_RANK": "3", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
MVAPICH = {name.replace("OMPI_", "MV2_"): value for name, value in OPEN_MPI.items()}
TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
}


@pytest.mark.parametrize(
    ("environment", "facts"),
    [
        ({}, RankFacts(0, 1, 0, 1, 0)),
        (TORCH, RankFacts(5, 8, 1, 4, 1)),
        (TORCHRUN, RankFacts(3, 4, 1, 2, 1)),
        (STEP, RankFacts(9, 11, 1, 3, 2)),
        (BATCH, RankFacts(0, 1, 0, 1, 0)),
        (OPEN_MPI, RankFacts(6, 8, 2, 4, 1)),
        (HYDRA, RankFacts(3, 4, 1, 2, 1)),
        ({**STEP, **MVAPICH}, RankFacts(6, 8, 2, 4, 1)),
        ({**STEP, **TORCH}, RankFacts(5, 8, 1, 4, 1)),
        ({**STEP, **OPEN_MPI}, RankFacts(6, 8, 2, 4, 1)),
        ({"RANK": "3"}, RankFacts(0, 1, 0, 1, 0)),
        ({"RANK": "three", "WORLD_SIZE": "4"}, RankFacts(0, 1, 0, 1, 0)),
        ({"RANK": "²", "WORLD_SIZE": "4"}, RankFacts(0, 1, 0, 1, 0)),
        ({"RANK": "3", "WORLD_SIZE": "4"}, RankFacts(3, 4, 0, 1, 0)),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "?"}, RankFacts(9, 11, 1, 1, 2)),
    ],
)
def test_facts_of_an_environment(environment: dict[str, str], facts: RankFacts) -> None:
    assert RankFacts.of(environment) == facts


@pytest.mark.parametrize(("node", "size"), [("0", 4), ("1", 4), ("2", 3)])
def test_local_size_is_looked_up_by_node(node: str, size: int) -> None:
    assert RankFacts.of({**STEP, "SLURM_NODEID": node}).local_world_size == size
