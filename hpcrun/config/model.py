"""What is asked: a run as its user describes it. run.yaml is this value, key for key."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hpcrun.config.container import DockerConfiguration
from hpcrun.config.data import DataInput, DataOutput
from hpcrun.config.distributed import (
    DistributedConfiguration,
    HorovodConfiguration,
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from hpcrun.config.environment import Environment
from hpcrun.errors import ConfigError, Problem
from hpcrun.reading import nearest

MailType = Literal[
    "begin",
    "end",
    "fail",
    "requeue",
    "all",
    "invalid_depend",
    "stage_out",
    "time_limit",
    "time_limit_90",
    "time_limit_80",
    "time_limit_50",
]

AUTO = "auto"
"""In place of a checkpoint: begin anew, and go on from the run's own in later attempts."""

StopSignal = Literal["USR1", "USR2", "TERM", "INT", "HUP"]

Place = Literal["history", "node", "scratch"]


@dataclass
class Resources:
    """What each node gives, and for how long."""

    node_count: int | None = None
    """Nodes of a run that is not distributed: the command runs once on each."""
    gpus_per_node: int | None = None
    """GPUs on each node."""
    gpu_type: str | None = None
    """The GPUs' model, such as a100."""
    cpus_per_task: int | None = None
    """CPUs for each process."""
    memory: str | None = None
    """Memory on each node, such as 32G; 0 or all for all of it."""
    exclusive: bool | None = None
    """Whether nobody else runs on the nodes."""
    time: str | None = None
    """The time limit: 90m, 1h30m, 12:00:00, 1-12:00:00; a bare number is minutes."""
    partition: str | None = None
    """In place of the target's partition."""
    qos: str | None = None
    """In place of the target's QOS."""
    account: str | None = None
    """The account that pays."""
    constraint: str | None = None
    """Features that the nodes must have."""
    reservation: str | None = None
    """The reservation to use."""
    storage: list[str] | None = None
    """Disks of the nodes that a job only has when it asks, by the site's names, such as nvme."""


@dataclass
class Mail:
    """When Slurm sends mail, and where to."""

    on: list[MailType] = field(default_factory=lambda: ["end", "fail"])
    """On which events."""
    address: str | None = None
    """Where to; default: what the cluster knows of you."""


@dataclass
class Stop:
    """How a run hears that its time is nearly over."""

    lead: str | None = None
    """How long before the time limit it is told; default: 2m, or checkpoint_time and 90s."""
    checkpoint_time: str | None = None
    """How long it takes to save a checkpoint, such as 5m."""
    signal: StopSignal | None = None
    """A signal that each rank gets as well, once it catches it."""


@dataclass
class Checkpoints:
    """Which of a run's outputs are checkpoints that a later attempt can go on from."""

    patterns: list[str] = field(default_factory=lambda: ["checkpoint[-_.]*", "*.ckpt"])
    """Names of files or folders below outputs/: *, ? and […]; ** stands for any folders."""
    marker: str | None = None
    """What tells a complete one: this name inside of the folder, or behind its name and a dot."""


@dataclass
class Requeue:
    """When a run begins its next attempt by itself."""

    allowed: bool | None = None
    """Whether Slurm may, after preemption or a node's failure; default: as the cluster has it."""
    at_time_limit: bool = False
    """Whether it goes on in the next attempt when it has stopped for the time limit."""
    exit_code: int = 42
    """The exit code by which the command asks for it; 0: none does."""
    max_attempts: int = 10
    """How many attempts a submission may have before hpcrun requeues it no more."""


@dataclass
class After:
    """Which runs this one waits for."""

    runs: list[str] = field(default_factory=list)
    """Their ids, unique beginnings of them, or @last; USER/ before it: another user's."""
    condition: Literal["afterok", "afterany"] = "afterok"
    """afterok: they must complete; afterany: they must end, however that is."""
    any_of: bool = False
    """Whether one of them is enough."""


@dataclass
class SnapshotLimits:
    """What the snapshot may hold at most."""

    max_bytes: str = "1G"
    """All files together."""
    max_files: int = 20_000
    """Files and links."""


@dataclass
class MetricFiles:
    """Files that the script writes metrics into; they are followed while it runs."""

    pattern: str
    """Their names below ./logs or ./outputs: * and ? within a name, ** for any folders."""
    format: Literal["tensorboard", "csv", "jsonl", "trainer_state"] | None = None
    """How to read them; default: what each file's name tells."""
    prefix: str | None = None
    """What the metrics' names begin with; default: the folders that wildcards stand for."""
    step: str | None = None
    """The column or key of the step; default: step, global_step, _step, iteration or epoch."""


@dataclass
class RunConfiguration:
    """A run as its user describes it: what, where, in which environment, with which resources.

    The value is plain and mutable; nothing is checked before it is submitted. `target`,
    `node_count`, `framework` and `communicator` are Azure ML's names for parts of it.
    """

    source_directory: str = "."
    """The folder that becomes the snapshot; relative to the file, or to the current folder."""
    script: str | None = None
    """The Python script, relative to source_directory."""
    arguments: list[str] | None = None
    """Words for the script, each handed over exactly as written."""
    command: list[str] | str | None = None
    """In place of script and arguments: a list is exact words, a text a line for bash."""
    compute_target: str | None = None
    """`site/target`, a site's name for its default target, or `local`, the default."""
    environment: Environment | str = field(default_factory=Environment)
    """What the command finds; a text: the folder of an environment, or a registered name."""
    docker: DockerConfiguration | None = None
    """Whether the command runs in the image of its environment; default: if there is one."""
    distributed_job_config: DistributedConfiguration | None = None
    """How many processes on how many nodes; `kind` is mpi, horovod, pytorch, tensorflow or
    parallel_task."""
    preflight: bool | None = None
    """Whether the launch is tried before the command; default: as the site says, else if there are
    several nodes."""
    resources: Resources = field(default_factory=Resources)
    """What each node gives, and for how long."""
    max_run_duration_seconds: int | None = None
    """How long all attempts together may run; also the time limit, without resources.time."""
    stop: Stop = field(default_factory=Stop)
    """How it hears that its time is nearly over."""
    requeue: Requeue = field(default_factory=Requeue)
    """When it begins its next attempt by itself."""
    resume_from: str | None = None
    """The checkpoint to begin with, or `auto`; the script gets it as --resume-from."""
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    """Which of its outputs are checkpoints."""
    inputs: dict[str, DataInput | str] | None = None
    """Data that it reads, by name; a text is the path, used where it lies."""
    outputs: dict[str, DataOutput | str] | None = None
    """Folders that it writes elsewhere, by name; a text is the path, and they are copied there."""
    after: After | None = None
    """Which runs it waits for."""
    experiment: str | None = None
    """The name that groups runs; default: the source folder's name."""
    display_name: str | None = None
    """A name for people."""
    description: str | None = None
    """A text for people."""
    tags: dict[str, str] | None = None
    """Names and values to find runs by."""
    private: bool | None = None
    """Whether nobody else may see it; default: as the workspace says, which is no."""
    environment_variables: dict[str, str] | None = None
    """Variables for the command, over those of the environment."""
    secrets: dict[str, str] | None = None
    """Variables whose values are read inside the job from files of mode 0600."""
    mail: Mail | None = None
    """When Slurm sends mail."""
    working_directory: Place = "history"
    """Where the job works: in the run's own folder, on each node's own disk, or on scratch."""
    sbatch: dict[str, str | None] | None = None
    """Further directives for sbatch: {switches: 2, contiguous: null}."""
    snapshot: SnapshotLimits = field(default_factory=SnapshotLimits)
    """What the snapshot may hold at most."""
    metric_files: list[MetricFiles | str] | None = None
    """Files whose metrics are brought into the history; a text is a pattern of names."""
    system_metrics_seconds: int = 30
    """How often each node's CPU, memory, disks, network and GPUs are measured; 0: never."""

    # -- Azure ML's names -------------------------------------------------------------------------

    @property
    def target(self) -> str | None:
        """The same as compute_target."""
        return self.compute_target

    @target.setter
    def target(self, value: str | None) -> None:
        self.compute_target = value

    @property
    def uses_image(self) -> bool:
        """Whether the command runs in the image of its environment: if one of Azure ML's two
        switches says so, or neither says anything."""
        environment = self.environment
        if isinstance(environment, str) or not environment.docker.base_image:
            return False
        switches = [environment.docker.enabled, self.docker.use_docker if self.docker else None]
        told = [switch for switch in switches if switch is not None]
        return any(told) or not told

    @property
    def node_count(self) -> int:
        """How many nodes; of the distributed configuration, if there is one."""
        if self.distributed_job_config is not None:
            return self.distributed_job_config.node_count
        return self.resources.node_count or 1

    @node_count.setter
    def node_count(self, value: int) -> None:
        distributed = self.distributed_job_config
        if isinstance(distributed, TensorflowConfiguration):
            distributed.worker_count = value
        elif distributed is not None:
            distributed.node_count = value
        else:
            self.resources.node_count = value

    @property
    def communicator(self) -> str:
        """What the processes speak: None, OpenMpi, Horovod, Nccl, Gloo, ParameterServer or
        ParallelTask."""
        distributed = self.distributed_job_config
        if isinstance(distributed, PyTorchConfiguration):
            return distributed.communication_backend
        if isinstance(distributed, MpiConfiguration):
            return "OpenMpi"
        if isinstance(distributed, HorovodConfiguration):
            return "Horovod"
        if isinstance(distributed, ParallelTaskConfiguration):
            return "ParallelTask"
        return "None" if distributed is None else "ParameterServer"

    @communicator.setter
    def communicator(self, value: str) -> None:
        known: Mapping[str, type[DistributedConfiguration] | None] = {
            "none": None,
            "openmpi": MpiConfiguration,
            "intelmpi": MpiConfiguration,
            "mpi": MpiConfiguration,
            "horovod": HorovodConfiguration,
            "nccl": PyTorchConfiguration,
            "gloo": PyTorchConfiguration,
            "parameterserver": TensorflowConfiguration,
            "paralleltask": ParallelTaskConfiguration,
        }
        word, nodes = str(value).lower(), self.node_count
        if word not in known:
            message = f"there is no communicator {value!r}"
            raise ConfigError(Problem(message, nearest(word, known)))
        kind = known[word]
        if kind is None:
            self.distributed_job_config = None
        elif not isinstance(self.distributed_job_config, kind):
            self.distributed_job_config = kind()
        if isinstance(self.distributed_job_config, PyTorchConfiguration):
            self.distributed_job_config.communication_backend = "Gloo" if word == "gloo" else "Nccl"
        self.resources.node_count = None
        if kind is not None or nodes > 1:
            self.node_count = nodes

    @property
    def framework(self) -> str:
        """Azure ML's word for the kind of script; it decides nothing here."""
        kinds = {PyTorchConfiguration: "PyTorch", TensorflowConfiguration: "TensorFlow"}
        return kinds.get(type(self.distributed_job_config), "Python")

    @framework.setter
    def framework(self, value: str) -> None:
        del value

    # -- files ------------------------------------------------------------------------------------

    def save(self, path: str | Path | None = None, name: str | None = None) -> Path:
        """Writes `<path>/.azureml/<name>.runconfig`; gives the file. See `save_runconfig`."""
        from hpcrun.config.runconfig import save_runconfig

        return save_runconfig(self, Path(path or "."), name or "run")

    @classmethod
    def load(cls, path: str | Path, name: str | None = None) -> RunConfiguration:
        """Reads a .runconfig; with a name, the one of that name of the project folder `path`."""
        from hpcrun.config.checking import readable
        from hpcrun.config.runconfig import load_runconfig, read_runconfig

        found = load_runconfig(name, Path(path)) if name else read_runconfig(Path(path))
        return readable(found)

    @staticmethod
    def delete(path: str | Path, name: str) -> None:
        """Removes the .runconfig of that name of the project folder `path`."""
        from hpcrun.config.runconfig import find_runconfig

        find_runconfig(name, Path(path)).unlink()

    def copy(self) -> RunConfiguration:
        """A copy that shares nothing with it."""
        return copy.deepcopy(self)
