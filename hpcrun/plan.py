"""A run as it will be submitted: every choice made, nothing done. Values only; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from hpcrun.config import MetricFiles
from hpcrun.container import Container
from hpcrun.directives import Directive, Job
from hpcrun.layout import RunPaths, UserPaths
from hpcrun.names import token_of
from hpcrun.site import MasterAddress, MasterPort

PORTS = range(12000, 30000)
"""Below those that Linux gives to clients."""

FORCE = "--force"
"""The origin of what is written though the site forbids it."""


class Choice(NamedTuple):
    """A resolved value and where it came from: default, site, target, a file's line, a flag."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True)
class Launch:
    """How the command is started.

    launcher names a template; kind is that of the distributed configuration. command is the words
    that each task runs. nodes × tasks_per_node tasks are started by the scheduler;
    processes_per_node is what each node ends up with (torchrun starts them itself).
    placeholders: how many words of the command come before those in which each task puts its own
    values (see `placeholders`); None: there are none. parameter_servers: how many processes there
    are besides, one on each of the first nodes. gpu_order: reversed, or as Slurm numbers them.
    gpu_visibility: all, localid, or as Slurm has it.
    """

    launcher: str
    command: tuple[str, ...]
    nodes: int
    tasks_per_node: int
    processes_per_node: int
    cpus_per_task: int | None
    python: str
    kind: str | None = None
    mpi_type: str | None = None
    srun_args: tuple[str, ...] = ()
    master_address: MasterAddress = field(default_factory=MasterAddress)
    master_port: MasterPort = field(default_factory=MasterPort)
    placeholders: int | None = None
    parameter_servers: int = 0
    gpu_order: str | None = None
    gpu_visibility: str | None = None

    @property
    def ports(self) -> range:
        """The ports of which one follows from the job's id: the site's, for several nodes."""
        first, last = self.master_port.first, self.master_port.last
        if self.nodes == 1 or first is None or last is None:
            return PORTS
        return range(first, last + 1)

    @property
    def world_size(self) -> int:
        """How many processes there are in all."""
        return self.nodes * self.processes_per_node + self.parameter_servers


@dataclass(frozen=True)
class Preflight:
    """What is looked at before the command. tasks: how many the launcher starts, which are one
    world. gpus: on each node. python: the command's, where its ranks are an MPI world."""

    tasks: int
    gpus: int
    python: str | None


@dataclass(frozen=True)
class Packing:
    """The environment as one file, which is brought to each node's own disk.

    by: how. prefix: the folder that was packed. place: the folder on each node. file: where it
    lies packed. fails: whether a job that cannot stage it fails. launcher: the words that start
    one process on each node, where those bring it.
    """

    by: str
    prefix: str
    place: str
    file: str
    fails: bool
    launcher: tuple[str, ...] = ()

    @property
    def root(self) -> str:
        """The environment on each node."""
        return staged_root(self.place)


def staged_place(node_tmp: str, run_id: str) -> str:
    """The folder on each node in which a run's environment is staged."""
    return _own_folder(node_tmp, run_id, "-env")


def _own_folder(parent: str, run_id: str, kind: str = "") -> str:
    """A run's own folder among those of others, which the end of its id names."""
    return f"{parent}/hpcrun-{run_id.rsplit('_', 1)[-1]}{kind}"


def staged_root(place: str) -> str:
    """The environment in the folder of a node, or a link to the shared one."""
    return f"{place}/root"


@dataclass(frozen=True)
class Setting:
    """What the batch shell prepares before the launch. prefix: of the environment on each node.
    packing: None: it is used where it is. unset: variables that it takes away. exports: whether it
    says that steps have its own environment."""

    lines: tuple[str, ...]
    module_purge: bool
    module_use: tuple[str, ...]
    modules: tuple[str, ...]
    prefix: str | None
    prefix_variable: str
    variables: Mapping[str, str]
    secrets: Mapping[str, str]
    packing: Packing | None = None
    unset: tuple[str, ...] = ()
    exports: bool = False

    @property
    def shared_prefix(self) -> str | None:
        """The folder of the environment that all nodes see."""
        return self.prefix if self.packing is None else self.packing.prefix


@dataclass(frozen=True)
class Stopping:
    """How the run hears that its time is nearly over.

    lead: how long before the time limit; None: it does not. own_clock: whether the agent's clock
    says so, not Slurm. signal: what each rank gets as well, such as USR1. checkpoint: how long it
    takes to save one, where the run says so.
    """

    lead: timedelta | None
    own_clock: bool = False
    signal: str | None = None
    checkpoint: timedelta | None = None


@dataclass(frozen=True)
class Requeueing:
    """When the agent has the run requeued; max_duration: how long all attempts may run."""

    exit_code: int
    at_time_limit: bool
    max_attempts: int
    max_duration: timedelta | None


@dataclass(frozen=True)
class Resuming:
    """Which checkpoint an attempt goes on from.

    path: the one to begin with. argument: whether the script gets it as --resume-from. fits:
    whether the command can take one; a line for bash cannot. patterns, marker: what tells the
    run's own (see `agent.checkpoints`).
    """

    path: str | None
    argument: bool
    fits: bool
    patterns: tuple[str, ...]
    marker: str | None


class Awaited(NamedTuple):
    """A run that another one waits for. record: the folder of its record."""

    user: str
    run_id: str
    record: str


@dataclass(frozen=True)
class Awaiting:
    """Which runs must have ended before the command starts.

    condition: afterok, they have completed; afterany, they have ended. any_of: one is enough.
    """

    runs: tuple[Awaited, ...]
    condition: str = "afterok"
    any_of: bool = False

    @classmethod
    def of(cls, told: Mapping[str, Any] | None) -> Awaiting | None:
        """As run.json tells it."""
        if told is None:
            return None
        runs = tuple(Awaited(**run) for run in told["runs"])
        return cls(runs, told["condition"], told["any_of"])

    def told(self) -> Mapping[str, Any]:
        """For run.json."""
        runs = [run._asdict() for run in self.runs]
        return {"runs": runs, "condition": self.condition, "any_of": self.any_of}


@dataclass(frozen=True)
class Tasks:
    """The independent tasks of a run.

    at_once: how many may run at the same time; None: all. index: which one a plan is of, from 0;
    None: of the run that has them as its children.
    """

    count: int
    at_once: int | None = None
    index: int | None = None


@dataclass(frozen=True)
class Data:
    """An input or an output. path: where it lies for all nodes. mode: direct, stage or unpack.

    place: below the node's folder for data; empty: it is used where it lies. plain: whether its
    own name is a variable as well, unless there is one of that name.
    """

    name: str
    path: str
    mode: str
    place: str
    output: bool
    plain: bool

    @property
    def variable(self) -> str:
        """The name of the variable that holds where it is."""
        return f"HPCRUN_{'OUTPUT' if self.output else 'INPUT'}_{self.name.upper()}"


@dataclass(frozen=True)
class Plan:
    """A run as it will be submitted."""

    run_id: str
    experiment: str
    display_name: str
    description: str
    tags: Mapping[str, str]
    private: bool
    user: str
    created: float
    target: str
    submission: int
    workspace: str
    sdk: str
    agent_python: str
    node_tmp: str
    working_root: str | None
    work_is_shared: bool
    shebang: str
    version: str
    job: Job
    directives: tuple[Directive, ...]
    forbidden: Mapping[str, str]
    setting: Setting
    launch: Launch
    preflight: Preflight | None
    time_limit: timedelta | None
    metric_files: tuple[MetricFiles, ...]
    system_metrics_seconds: int
    stopping: Stopping
    requeueing: Requeueing
    resuming: Resuming
    awaiting: Awaiting | None
    choices: tuple[Choice, ...]
    tasks: Tasks | None = None
    container: Container | None = None
    data: tuple[Data, ...] = ()

    @property
    def data_folder(self) -> str:
        """The folder on each node's own disk for data, without its attempt."""
        return _own_folder(self.node_tmp, self.run_id, "-data")

    @property
    def stages(self) -> bool:
        """Whether data are brought to or from the nodes."""
        return any(each.place for each in self.data)

    @property
    def room(self) -> UserPaths:
        """The folders of its user that it lies in."""
        own = UserPaths.of(self.workspace, self.user)
        return own.private if self.private else own

    @property
    def paths(self) -> RunPaths:
        """The run's folders."""
        return self.room.run(self.run_id)

    @property
    def spool(self) -> str:
        """The folder on each node's own disk for what waits to be brought to the history."""
        return _own_folder(self.node_tmp, self.run_id)

    @property
    def stage(self) -> str:
        """The script by which each node takes its packed environment."""
        return f"{self.sdk}/hpcrun/agent/stage.sh"

    @property
    def work(self) -> str | None:
        """Where the job works, without its attempt; None: in the run's own folder."""
        if self.working_root is None:
            return None
        return _own_folder(self.working_root, self.run_id, "-work")

    @property
    def token(self) -> str:
        """Names this submission: its number is written before sbatch."""
        return token_of(self.run_id, self.submission)
