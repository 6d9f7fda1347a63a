"""How commands are launched at a site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Modules:
    """The module system."""

    purge: bool = False
    """Whether to begin with `module purge`."""
    use: tuple[str, ...] = ()
    """Folders for `module use`, in order."""
    load: tuple[str, ...] = ()
    """Modules to load before the run's own, in order."""
    profiles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Named sets of further modules, such as pytorch, for runs that ask for one."""
    system: Literal["lmod", "tmod", "none"] | None = None
    """Which it is: Lmod, Environment Modules, or none: then a run that asks for modules is
    refused. Absent: that is not known."""


@dataclass(frozen=True)
class Mpi:
    """How MPI programs are started."""

    starter: str = "srun"
    """The launcher when the run names none: srun, mpirun, or the cluster's own, such as ibrun."""
    type: str | None = None
    """srun's --mpi= value; absent: the site's default."""
    types: Mapping[str, str] = field(default_factory=dict)
    """The same by the MPI that a run names, such as openmpi, mpich or cray."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for MPI programs."""


@dataclass(frozen=True)
class MasterAddress:
    """Where the first process of several nodes is reached; absent: by the first node's name."""

    suffix: str = ""
    """Written behind the first node's name, where the fast network has names of its own."""
    resolve: Literal["ip", "ipv4"] | None = None
    """Whether the address of that name is taken, and of which kind; absent: the name itself."""
    variable: str | None = None
    """The variable of jobs in which the site tells it."""


@dataclass(frozen=True)
class MasterPort:
    """The port of the first process of several nodes; absent: one that follows from the job id."""

    number: int | None = None
    """Always this one."""
    variable: str | None = None
    """The variable of jobs in which the site tells it."""
    command: str | None = None
    """What prints a free one on the first node, such as get_free_port."""
    first: int | None = None
    """The least of those of which one follows from the job id."""
    last: int | None = None
    """The greatest of them."""


@dataclass(frozen=True)
class LaunchRules:
    """How commands are launched at this site."""

    mpi: Mpi = Mpi()
    """MPI programs."""
    pytorch: Literal["torchrun", "torchrun_static", "torchrun_mpirun", "torchrun_ibrun", "srun"] = (
        "torchrun"
    )
    """How distributed PyTorch is launched when the run does not say."""
    master_address: MasterAddress = MasterAddress()
    """Where the first process is reached."""
    master_port: MasterPort = MasterPort()
    """Its port."""
    preflight: bool | None = None
    """Whether the launch is tried before the command; absent: on several nodes."""
    srun_args: tuple[str, ...] = ("--kill-on-bad-exit=1", "--wait=60")
    """Words for every srun. One rank that dies must end the step: off by default (22.05)."""
    cpu_bind: str | None = None
    """srun's --cpu-bind= where it starts each process itself, such as cores."""
    cpu_binds: Mapping[str, str] = field(default_factory=dict)
    """The same by the number of processes on a node, for jobs that have whole nodes."""
    gpu_bind: str | None = None
    """srun's --gpu-bind= for such processes of a job with GPUs, such as none."""
    gres_flags: str | None = None
    """srun's --gres-flags= for them, such as allow-task-sharing."""
    gpu_visibility: Literal["slurm", "all", "localid"] = "slurm"
    """Which GPUs such a process sees: as Slurm has it; all of its node; or only the one of its
    local rank, as number 0. The last is not for PyTorch and Horovod, whose programs choose it."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for every command."""
    single_node_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for commands on one node."""
    multi_node_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for commands over several nodes."""
    gpu_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for commands with GPUs."""
    unset: tuple[str, ...] = ()
    """Variables of the submission's environment or of modules that the command must not find."""
    discouraged: Mapping[str, str] = field(default_factory=dict)
    """Launchers that do badly here, with the site's reason: their use is warned of."""
