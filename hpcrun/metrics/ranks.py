"""Which process of how many this one is, from its environment. Pure; standard library only (3.8+).

The first family of variables that names both rank and size is believed:

    RANK, WORLD_SIZE             torch's names, which hpcrun's launchers set for every task
    OMPI_COMM_WORLD_RANK, _SIZE  Open MPI's mpirun
    PMI_RANK, PMI_SIZE           MPICH's and Intel's mpirun
    MV2_COMM_WORLD_RANK, _SIZE   MVAPICH's
    SLURM_PROCID, _NTASKS        srun, and only inside a step

MPI comes before Slurm: mpirun starts one helper per node with srun, so on all nodes but the first
its processes see the helper's SLURM_PROCID. A batch script sees SLURM_PROCID=0 and the whole job's
SLURM_NTASKS, without SLURM_STEP_ID. OMPI_COMM_WORLD_NODE_RANK is not the node's number, but the
process's own number on its node.
"""

from __future__ import annotations

import re
from typing import Mapping, NamedTuple, Optional, Sequence


class RankFacts(NamedTuple):
    """This process among all, and among those of its node. All count from 0.

    node_rank: where nobody tells it, nodes are taken as filled one after another.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    node_rank: int = 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "RankFacts":
        """The facts that an environment tells; 0 of 1 if it tells none."""
        for family in _FAMILIES:
            facts = family.read(environment)
            if facts is not None:
                return facts
        return cls()


class _Family(NamedTuple):
    """The names that one launcher uses; of several, the first that is set counts."""

    rank: str
    size: Sequence[str]
    local_rank: str
    local_size: str
    node: Sequence[str] = ()
    needs: str = ""

    def read(self, environment: Mapping[str, str]) -> Optional[RankFacts]:
        rank = _number(environment, self.rank)
        size = _first_number(environment, self.size)
        if rank is None or not size or (self.needs and self.needs not in environment):
            return None
        node = _first_number(environment, self.node)
        local_size = _local_size(environment.get(self.local_size, ""), node)
        if node is None:
            node = rank // local_size if local_size else 0
        local_rank = _number(environment, self.local_rank)
        return RankFacts(rank, size, local_rank or 0, local_size or 1, node)


_FAMILIES = (
    _Family("RANK", ("WORLD_SIZE",), "LOCAL_RANK", "LOCAL_WORLD_SIZE", ("NODE_RANK", "GROUP_RANK")),
    _Family(
        "OMPI_COMM_WORLD_RANK",
        ("OMPI_COMM_WORLD_SIZE",),
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    _Family("PMI_RANK", ("PMI_SIZE",), "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    _Family(
        "MV2_COMM_WORLD_RANK",
        ("MV2_COMM_WORLD_SIZE",),
        "MV2_COMM_WORLD_LOCAL_RANK",
        "MV2_COMM_WORLD_LOCAL_SIZE",
    ),
    _Family(
        "SLURM_PROCID",
        ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
        "SLURM_LOCALID",
        "SLURM_STEP_TASKS_PER_NODE",
        ("SLURM_NODEID",),
        needs="SLURM_STEP_ID",
    ),
)


def _number(environment: Mapping[str, str], name: str) -> Optional[int]:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None


def _first_number(environment: Mapping[str, str], names: Sequence[str]) -> Optional[int]:
    numbers = (_number(environment, name) for name in names)
    return next((number for number in numbers if number is not None), None)


_TASKS = re.compile(r"(\d+)(?:\(x(\d+)\))?")


def _local_size(text: str, node: Optional[int]) -> Optional[int]:
    """The processes on this node: a number, or Slurm's `4(x2),3` looked up by the node's number."""
    if text.isdecimal():
        return int(text)
    left = node or 0
    for tasks, times in _TASKS.findall(text):
        if left < int(times or 1):
            return int(tasks)
        left -= int(times or 1)
    return None
