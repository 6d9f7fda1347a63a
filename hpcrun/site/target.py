"""What users pick as `site/target`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hpcrun.site.container import Containers
from hpcrun.site.launch import LaunchRules, Modules
from hpcrun.site.scheduler import SchedulerRules
from hpcrun.site.storage import Storage


@dataclass(frozen=True)
class NodeShape:
    """One node of a target."""

    cpus: int | None = None
    """CPUs that a job may use on a node."""
    gpus: int | None = None
    """GPUs on a node; 0 says there are none."""
    gpu_model: str | None = None
    """The GPUs' name as the site writes it."""
    gpu_order: Literal["reversed"] | None = None
    """Whether the last GPU is nearest to the first CPUs: each process is given them in that order,
    so that its own is the near one. Absent: they are left as Slurm numbers them."""
    gpu_memory: str | None = None
    """Memory of one GPU, such as 80G."""
    memory: str | None = None
    """Memory that a job may ask for on a node, such as 500G."""
    arch: str | None = None
    """What `uname -m` says there, such as aarch64; absent: as on the login node."""


@dataclass(frozen=True)
class NodeCounts:
    """How many nodes a job may have."""

    min: int = 1
    """The fewest."""
    max: int | None = None
    """The most."""


@dataclass(frozen=True)
class TimeRule:
    """The longest limit of jobs of some sizes."""

    max: str
    """The longest limit that is accepted."""
    nodes_min: int = 1
    """The fewest nodes of such a job."""
    nodes_max: int | None = None
    """The most nodes of such a job."""


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
    rules: tuple[TimeRule, ...] = ()
    """The longest limits where they depend on the number of nodes; the first that fits counts."""
    node_minutes: int | None = None
    """The most that nodes times minutes may be, besides `max` and `rules`."""


@dataclass(frozen=True)
class Override:
    """What a target wants otherwise than its site; each key on its own."""

    setup: tuple[str, ...] = ()
    """As in the site file."""
    scheduler: SchedulerRules = field(default_factory=SchedulerRules)
    """As in the site file."""
    modules: Modules = field(default_factory=Modules)
    """As in the site file."""
    launch: LaunchRules = field(default_factory=LaunchRules)
    """As in the site file."""
    containers: Containers = field(default_factory=Containers)
    """As in the site file."""
    storage: Storage = field(default_factory=Storage)
    """As in the site file."""


@dataclass(frozen=True)
class Target:
    """What users pick as `site/target`: where a job goes and what it finds there."""

    description: str = ""
    """One line for people."""
    kind: Literal["gpu", "cpu", "test"] | None = None
    """What it is for: a run of another kind is told so."""
    endpoint: str | None = None
    """The login host to submit from, of ssh.endpoints; absent: any."""
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
    gpus_required: bool = False
    """Whether a job that asks for no GPU is refused."""
    preemptible: bool = False
    """Whether other jobs can push a job off its nodes."""
    internet: Literal["yes", "no", "proxy"] | None = None
    """Whether its nodes reach the internet."""
    override: Override = Override()
    """What it wants otherwise than the site."""
