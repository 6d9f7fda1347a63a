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
class LaunchRules:
    """How commands are launched at this site."""

    mpi: Mpi = Mpi()
    """MPI programs."""
    pytorch: Literal["torchrun", "torchrun_static", "srun"] = "torchrun"
    """How distributed PyTorch is launched when the run does not say."""
    preflight: bool | None = None
    """Whether the launch is tried before the command; absent: on several nodes."""
    srun_args: tuple[str, ...] = ("--kill-on-bad-exit=1", "--wait=60")
    """Words for every srun. One rank that dies must end the step: off by default (22.05)."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for every command."""
    single_node_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for commands on one node."""
    multi_node_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for commands over several nodes."""
    gpu_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for commands with GPUs."""
    discouraged: Mapping[str, str] = field(default_factory=dict)
    """Launchers that do badly here, with the site's reason: their use is warned of."""
