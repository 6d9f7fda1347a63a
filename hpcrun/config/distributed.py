"""How many processes a run has on how many nodes, and what kind of world they form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

LAUNCHERS = (
    *("plain", "srun", "mpirun", "ibrun", "tensorflow"),
    *("torchrun", "torchrun_static", "torchrun_mpirun", "torchrun_ibrun"),
)
"""Those that ship; a template launchers/NAME.sh.j2 of a site's or one's own is one more."""

Implementation = Literal["openmpi", "mpich", "intelmpi", "mvapich", "cray", "parastation"]


@dataclass
class MpiConfiguration:
    """Processes of an MPI world."""

    kind: ClassVar[str] = "mpi"
    process_count_per_node: int = 1
    """Processes on each node."""
    node_count: int = 1
    """Nodes."""
    launcher: str | None = None
    """What starts them, the name of a template in launchers/; default: what the site says."""
    implementation: Implementation | None = None
    """The MPI that the program was built with, where srun starts each in another way; default: the
    site's."""

    @property
    def process_count_of_node(self) -> int:
        """Processes on each node."""
        return self.process_count_per_node


@dataclass
class HorovodConfiguration:
    """Processes of Horovod, which speak over MPI; one for each GPU."""

    kind: ClassVar[str] = "horovod"
    process_count_per_node: int | None = None
    """Processes on each node; default: as many as GPUs are asked for there, 1 without any."""
    node_count: int = 1
    """Nodes."""
    launcher: str | None = None
    """What starts them, as for MPI; default: what the site says."""
    implementation: Implementation | None = None
    """The MPI that Horovod was built with, as for MPI; default: the site's."""

    @property
    def process_count_of_node(self) -> int:
        """Processes on each node, where no GPUs are asked for."""
        return self.process_count_per_node or 1


@dataclass
class PyTorchConfiguration:
    """Processes of a torch.distributed world."""

    kind: ClassVar[str] = "pytorch"
    communication_backend: Literal["Nccl", "Gloo"] = "Nccl"
    """The backend that the script will use; with Nccl each process needs a GPU of its own."""
    process_count: int | None = None
    """Processes over all nodes (Azure ML's rule). None: the command runs once on each node."""
    node_count: int = 1
    """Nodes."""
    launcher: str | None = None
    """What starts them, the name of a template in launchers/; default: what the site says."""

    @property
    def process_count_of_node(self) -> int:
        """Processes on each node."""
        return (self.process_count or self.node_count) // self.node_count


@dataclass
class TensorflowConfiguration:
    """Workers and parameter servers of a TensorFlow cluster; one worker on each node."""

    kind: ClassVar[str] = "tensorflow"
    worker_count: int = 1
    """Workers, and so nodes."""
    parameter_server_count: int = 1
    """Parameter servers, one on each of the first nodes; 0 for MultiWorkerMirroredStrategy."""

    @property
    def node_count(self) -> int:
        """Nodes."""
        return self.worker_count

    @property
    def process_count_of_node(self) -> int:
        """Processes on each node."""
        return 1


@dataclass
class ParallelTaskConfiguration:
    """Independent tasks: a child run for each, all of them in one job array."""

    kind: ClassVar[str] = "parallel_task"
    task_count: int = 1
    """Tasks; they count from 0."""
    max_parallel: int | None = None
    """Tasks that may run at the same time; default: all."""
    node_count: int = 1
    """Nodes of each task; the command runs once on each."""

    @property
    def process_count_of_node(self) -> int:
        """Processes of a task on each node."""
        return 1


DistributedConfiguration = (
    MpiConfiguration
    | HorovodConfiguration
    | PyTorchConfiguration
    | TensorflowConfiguration
    | ParallelTaskConfiguration
)


def nodes_key(distributed: DistributedConfiguration | None) -> str:
    """The key that says how many nodes there are."""
    if distributed is None:
        return "resources.node_count"
    of_tensorflow = isinstance(distributed, TensorflowConfiguration)
    return f"distributed_job_config.{'worker_count' if of_tensorflow else 'node_count'}"


def processes_key(distributed: DistributedConfiguration | None) -> str:
    """The key that says how many processes there are; empty if there is none."""
    if isinstance(distributed, MpiConfiguration | HorovodConfiguration):
        return "distributed_job_config.process_count_per_node"
    if isinstance(distributed, PyTorchConfiguration):
        return "distributed_job_config.process_count"
    return ""
