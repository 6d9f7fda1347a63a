"""What a cluster is: the typed value behind a site file. Values only; reading is in `reading`.

Field names follow one schema for all sites; a field that is absent is not known and nothing is
emitted for it. `local` is a site as well: this machine, without a scheduler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Source:
    """Where facts of a site file come from."""

    url: str = ""
    """The page or repository."""
    date: str = ""
    """The day it was read, as yyyy-mm-dd."""
    grade: Literal["A", "B", "C"] = "A"
    """A: the site's own documentation. B: kept by its staff. C: third-party."""


@dataclass(frozen=True)
class NodeShape:
    """One node of a target."""

    cpus: int | None = None
    """CPUs that a job may use on a node."""
    gpus: int | None = None
    """GPUs on a node; 0 says there are none."""
    gpu_model: str | None = None
    """The GPUs' name as the site writes it."""
    memory: str | None = None
    """Memory that a job may ask for on a node, such as 500G."""


@dataclass(frozen=True)
class NodeCounts:
    """How many nodes a job may have."""

    min: int = 1
    """The fewest."""
    max: int | None = None
    """The most."""


@dataclass(frozen=True)
class TimeLimits:
    """How long a job may run."""

    default: str | None = None
    """The limit that is asked for when the run names none."""
    max: str | None = None
    """The longest limit that is accepted."""
    min: str | None = None
    """The shortest limit that is accepted."""
    required: bool = False
    """Whether a job without a limit is refused."""


@dataclass(frozen=True)
class Target:
    """What users pick as `site/target`: where a job goes and what it finds there."""

    description: str = ""
    """One line for people."""
    partition: str | None = None
    """Written as --partition."""
    qos: str | None = None
    """Written as --qos."""
    constraint: str | None = None
    """Written as --constraint."""
    reservation: str | None = None
    """Written as --reservation."""
    account_suffix: str = ""
    """Added to the account."""
    node: NodeShape = NodeShape()
    """The shape of its nodes."""
    nodes: NodeCounts = NodeCounts()
    """How many of them a job may have."""
    time: TimeLimits = TimeLimits()
    """How long a job may run."""
    exclusive: bool = False
    """Whether jobs get whole nodes in any case."""
    preemptible: bool = False
    """Whether other jobs can push a job off its nodes."""


@dataclass(frozen=True)
class Account:
    """When and how --account is written."""

    required: bool = False
    """Whether a job without one is refused."""
    default: str | None = None
    """The account of runs that name none."""


@dataclass(frozen=True)
class Gpu:
    """How GPUs are asked for."""

    form: Literal["gpus_per_node", "gres", "total", "implicit"] = "gpus_per_node"
    """Which flag: --gpus-per-node, --gres=gpu:, --gpus (for all nodes), or none."""
    typed: Literal["never", "optional", "required"] = "optional"
    """Whether the model is part of the request."""
    types: Mapping[str, str] = field(default_factory=dict)
    """Common names of models, to this site's."""
    allowed_counts: tuple[int, ...] = ()
    """The counts per node that are accepted; empty: any."""


@dataclass(frozen=True)
class Memory:
    """How memory is asked for."""

    mode: Literal["optional", "required", "forbidden", "ignored"] = "optional"
    """Whether --mem may, must or must not be written."""


@dataclass(frozen=True)
class Directives:
    """Directives that a site forbids or wants in any case."""

    forbid: Mapping[str, str] = field(default_factory=dict)
    """Flag (such as --mem), to the site's reason."""
    always: tuple[str, ...] = ()
    """Whole directives (such as --hint=nomultithread)."""


@dataclass(frozen=True)
class Poll:
    """How often the scheduler may be asked."""

    interval_seconds: int = 60
    """Between two questions of one user on one host."""
    max_interval_seconds: int = 180
    """Up to which that grows while nothing changes."""


@dataclass(frozen=True)
class SchedulerRules:
    """How a job is asked for at this site."""

    kind: Literal["slurm", "local"] = "slurm"
    """Which scheduler."""
    account: Account = Account()
    """The rules for accounts."""
    gpu: Gpu = Gpu()
    """The rules for GPUs."""
    memory: Memory = Memory()
    """The rules for memory."""
    directives: Directives = Directives()
    """Forbidden and fixed directives."""
    comment: bool = True
    """Whether a job's comment is ours to write."""
    client_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for sbatch, squeue and their like."""
    poll: Poll = Poll()
    """How often it may be asked."""


@dataclass(frozen=True)
class Modules:
    """The module system."""

    purge: bool = False
    """Whether to begin with `module purge`."""
    use: tuple[str, ...] = ()
    """Folders for `module use`, in order."""
    load: tuple[str, ...] = ()
    """Modules to load before the run's own, in order."""


@dataclass(frozen=True)
class Mpi:
    """How MPI programs are started."""

    starter: Literal["srun", "mpirun"] = "srun"
    """The launcher when the run names none."""
    type: str | None = None
    """srun's --mpi= value; absent: the site's default."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for MPI programs."""


@dataclass(frozen=True)
class LaunchRules:
    """How commands are launched at this site."""

    mpi: Mpi = Mpi()
    """MPI programs."""
    pytorch: Literal["torchrun", "srun"] = "torchrun"
    """How distributed PyTorch is launched when the run does not say."""
    srun_args: tuple[str, ...] = ("--kill-on-bad-exit=1", "--wait=60")
    """Words for every srun. One rank that dies must end the step: off by default (22.05)."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for every command."""
    multi_node_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for commands over several nodes."""


@dataclass(frozen=True)
class Storage:
    """Where things lie at this site."""

    run_history_root: str | None = None
    """The workspace when none is configured: shared, not purged, writable from all nodes."""
    node_tmp: str = "/tmp"
    """A folder on each node's own disk."""
    scratch: str | None = None
    """A purged folder that all nodes share, such as $SCRATCH/hpcrun: $USER, and variables with
    SCRATCH in their names, are those where you submit."""


@dataclass(frozen=True)
class SiteConfig:
    """A cluster, as its site file tells it."""

    schema_version: int
    """The schema of the file: 1."""
    id: str
    """The name before the slash in `site/target`."""
    title: str = ""
    """The name for people."""
    docs_url: str = ""
    """The site's own documentation."""
    sources: tuple[Source, ...] = ()
    """Where the facts come from."""
    shebang: str = "/bin/bash"
    """The interpreter of the batch script: `/bin/bash -l` where only login shells know modules."""
    setup: tuple[str, ...] = ()
    """Shell lines that run once in the batch shell, before modules."""
    scheduler: SchedulerRules = SchedulerRules()
    """How a job is asked for."""
    modules: Modules = Modules()
    """The module system."""
    launch: LaunchRules = LaunchRules()
    """How commands are launched."""
    storage: Storage = Storage()
    """Where things lie."""
    default_target: str | None = None
    """The target when only the site is named."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """Its targets by name."""
