"""Azure ML's .runconfig files: read, and written with their comments kept.

Keys on disk are camelCase, snake_case is read too. Of Azure ML's keys those that have a meaning on
a Slurm cluster are read; the others are passed over. What hpcrun adds (resources, sbatch, …) stands
beside them under its own names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hpcrun.arguments import is_path
from hpcrun.config.container import DockerConfiguration, DockerSection
from hpcrun.config.data import DataInput, DataOutput
from hpcrun.config.distributed import (
    DistributedConfiguration,
    HorovodConfiguration,
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
    nodes_key,
)
from hpcrun.config.editing import Rules, edited
from hpcrun.config.environment import Environment
from hpcrun.config.model import (
    After,
    Checkpoints,
    Mail,
    MetricFiles,
    Place,
    Requeue,
    Resources,
    RunConfiguration,
    SnapshotLimits,
    Stop,
)
from hpcrun.config.runconfig_environment import (
    JOINED,
    FileEnvironment,
    camel,
    environment_in,
    not_honoured,
    plain,
    snake,
    written,
)
from hpcrun.config.runfile import anchor, file_text
from hpcrun.errors import ConfigError, Problem
from hpcrun.reading import Finding, Read, check_value, nearest, read_partly, with_overrides

FOLDERS = (".azureml", "aml_config")
"""Where .runconfig files lie in a project; Azure ML's first versions used the second."""

SUFFIX = ".runconfig"


@dataclass
class _ParallelTask(ParallelTaskConfiguration):
    """With what is Azure ML's there: its workers take tasks until there are no more."""

    max_retries_per_worker: Any = None
    worker_count_per_node: Any = None
    terminal_exit_codes: Any = None


@dataclass
class _File:
    """A .runconfig as it is written. What is Any is Azure ML's and means nothing here."""

    script: str | None = None
    arguments: list[str] = field(default_factory=list)
    command: list[str] | str | None = None
    target: str | None = None
    framework: str | None = None
    communicator: (
        Literal[
            "None",
            "OpenMpi",
            "IntelMpi",
            "Mpi",
            "Horovod",
            "Nccl",
            "Gloo",
            "ParameterServer",
            "ParallelTask",
        ]
        | None
    ) = None
    max_run_duration_seconds: int | None = None
    node_count: int = 1
    environment: FileEnvironment = field(default_factory=FileEnvironment)
    environment_variables: dict[str, str] | None = None
    mpi: MpiConfiguration = field(default_factory=MpiConfiguration)
    horovod: HorovodConfiguration = field(default_factory=HorovodConfiguration)
    pytorch: PyTorchConfiguration = field(default_factory=PyTorchConfiguration)
    tensorflow: TensorflowConfiguration = field(default_factory=TensorflowConfiguration)
    source_directory: str = "."
    resources: Resources = field(default_factory=Resources)
    stop: Stop = field(default_factory=Stop)
    requeue: Requeue = field(default_factory=Requeue)
    resume_from: str | None = None
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    working_directory: Place = "history"
    inputs: dict[str, DataInput | str] | None = None
    outputs: dict[str, DataOutput | str] | None = None
    after: After | None = None
    experiment: str | None = None
    display_name: str | None = None
    description: str | None = None
    tags: dict[str, str] | None = None
    private: bool | None = None
    secrets: dict[str, str] | None = None
    mail: Mail | None = None
    sbatch: dict[str, str | None] | None = None
    snapshot: SnapshotLimits = field(default_factory=SnapshotLimits)
    metric_files: list[MetricFiles | str] | None = None
    system_metrics_seconds: int = 30
    path: Any = None
    priority: Any = None
    history: Any = None
    spark: Any = None
    docker: DockerConfiguration | None = None
    hdi: Any = None
    paralleltask: _ParallelTask = field(default_factory=_ParallelTask)
    data_references: Any = None
    data: Any = None
    datacaches: Any = None
    output_data: Any = None
    source_directory_data_store: Any = None
    amlcompute: Any = None
    kubernetescompute: Any = None
    credential_passthrough: Any = None
    application_endpoints: Any = None
    services: Any = None
    auto_prepare_environment: Any = None
    use_absolute_path: Any = None
    job_name: Any = None
    identity: Any = None
    exposed_ports: Any = None
    container_instance: Any = None
    ai_super_computer: Any = None
    cmk8s_compute: Any = None
    command_return_code_config: Any = None


_SAME = (
    *("script", "command", "target", "max_run_duration_seconds", "environment_variables"),
    *("source_directory", "resources", "stop", "requeue", "resume_from", "checkpoints"),
    *("inputs", "outputs", "after", "experiment", "display_name", "description", "tags", "private"),
    *("secrets", "mail", "sbatch"),
    *("working_directory", "snapshot", "metric_files", "system_metrics_seconds"),
)
"""The keys that mean the same in a .runconfig and in a RunConfiguration."""


# -- reading ------------------------------------------------------------------------------------


def find_runconfig(name: str, folder: Path) -> Path:
    """The .runconfig of that name in a project folder. ConfigError names the nearest."""
    places = [folder / sub for sub in (*FOLDERS, ".")]
    for place in places:
        for file in (place / name, place / f"{name}{SUFFIX}"):
            if is_path(file) and file.is_file():
                return file
    known = sorted({f.stem for place in places for f in place.glob(f"*{SUFFIX}")})
    where = f"{folder / FOLDERS[0]}"
    raise ConfigError(Problem(f"there is no .runconfig {name!r} in {where}", nearest(name, known)))


def load_runconfig(
    name: str, folder: Path, overrides: Sequence[str] = ()
) -> Read[RunConfiguration]:
    """What the .runconfig of that name asks for, as far as it could be read; as `load_config`.

    Its source is the project folder. overrides: `key.key=value` as in a run.yaml, which win.
    """
    read = read_runconfig(find_runconfig(name, folder))
    anchor(read.value, folder)
    return with_overrides(RunConfiguration, read, overrides)


def read_runconfig(file: Path) -> Read[RunConfiguration]:
    """What a .runconfig asks for, as far as it could be read; as `load_config`."""
    read = read_partly(_File, file_text(file), str(file), rename=snake)
    of_environment = [
        finding._replace(key=f"environment.{finding.key}")
        for finding in not_honoured(read.value.environment)
    ]
    read = read.with_findings([*of_environment, *_not_honoured(read.value)])
    config = _configuration(read.value)
    distributed = config.distributed_job_config
    places = {
        "target": "compute_target",
        "node_count": nodes_key(distributed),
        "communicator": "distributed_job_config",
        distributed.kind if distributed is not None else "": "distributed_job_config",
    }

    def place(key: str) -> str:
        """The key of a RunConfiguration that a key of the file is."""
        head, dot, rest = key.partition(".")
        return places.get(head, head) + dot + rest if key else ""

    return Read(
        config,
        {place(key): origin for key, origin in read.origins.items()},
        read.problems,
        frozenset(map(place, read.wrong)),
        frozenset(map(place, read.misread)),
    )


def _not_honoured(read: _File) -> Iterator[Finding]:
    """What Azure ML would do for the run, and hpcrun does not."""
    for key in ("data", "data_references", "datacaches", "output_data"):
        if getattr(read, key):
            message = f"hpcrun has no datastores, which {camel(key)} names"
            hint = "inputs: {NAME: PATH} and outputs: {NAME: PATH} say where data lie here"
            yield Finding(key, message, hint)
    for key in ("application_endpoints", "services"):
        if getattr(read, key):
            hint = "start it in the script: hpcrun shell RUN -L PORT reaches it"
            yield Finding(key, f"hpcrun starts none of {camel(key)}", hint)


def _configuration(read: _File) -> RunConfiguration:
    config = RunConfiguration(**{n: getattr(read, n) for n in _SAME if n != "target"})
    config.target = read.target
    config.arguments = read.arguments or None
    if config.command == "" or config.command == []:
        config.command = None
    config.environment = environment_in(read.environment)
    if read.environment.docker.base_image:
        config.docker = read.docker
    else:  # then Azure ML's other keys say nothing
        config.environment.docker = DockerSection()
    config.distributed_job_config = _distributed(read)
    if config.distributed_job_config is None and read.node_count > 1:
        config.resources.node_count = read.node_count
    return config


def _distributed(read: _File) -> DistributedConfiguration | None:
    communicator = read.communicator or "None"
    if communicator in ("OpenMpi", "IntelMpi", "Mpi"):
        read.mpi.node_count = max(read.mpi.node_count, read.node_count)
        return read.mpi
    if communicator == "Horovod":
        read.horovod.node_count = max(read.horovod.node_count, read.node_count)
        return read.horovod
    if communicator in ("Nccl", "Gloo"):
        read.pytorch.node_count = max(read.pytorch.node_count, read.node_count)
        read.pytorch.communication_backend = "Nccl" if communicator == "Nccl" else "Gloo"
        return read.pytorch
    if communicator == "ParallelTask":
        told = read.paralleltask
        nodes = max(told.node_count, read.node_count)
        return ParallelTaskConfiguration(told.task_count, told.max_parallel, nodes)
    return read.tensorflow if communicator == "ParameterServer" else None


# -- writing ------------------------------------------------------------------------------------


def save_runconfig(config: RunConfiguration, folder: Path, name: str) -> Path:
    """Writes `<folder>/.azureml/<name>.runconfig` and gives it; a file that is there keeps its
    comments and the keys that mean nothing here. ConfigError if it cannot be written."""
    wanted = dict(_written(check_value(RunConfiguration, config)))
    file = folder / FOLDERS[0] / f"{name.removesuffix(SUFFIX)}{SUFFIX}"
    held = file_text(file) if file.is_file() else ""
    text = edited(held, wanted, _RULES, str(file))
    aside = file.with_name(f".{file.name}.{os.urandom(4).hex()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_text(text, encoding="utf-8")
            os.replace(aside, file)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(Problem(f"cannot write {file}: {error.strerror}")) from error
    return file


def _written(config: RunConfiguration) -> Iterator[tuple[str, Any]]:
    """The keys that are hpcrun's to write, with None for those to be emptied."""
    distributed = config.distributed_job_config
    yield "script", config.script
    yield "arguments", config.arguments
    yield "target", config.target or "local"
    yield "framework", config.framework
    yield "communicator", config.communicator
    yield "nodeCount", config.node_count
    environment = config.environment
    if isinstance(environment, str):
        environment = Environment(environment, virtual_environment=environment)
    yield "environment", written(environment)
    if config.docker is not None:
        yield "docker", plain(config.docker)
    elif environment.docker.base_image:
        yield "docker", {"useDocker": config.uses_image}
    if distributed is not None:  # the sections of the others say nothing without a communicator
        yield JOINED.get(distributed.kind, distributed.kind), plain(distributed)
    defaults = RunConfiguration()
    for name in _SAME:
        value = plain(getattr(config, name))
        if value == plain(getattr(defaults, name)):
            value = dict.fromkeys(value) if isinstance(value, dict) else None
        if name not in ("script", "target"):
            yield camel(name), value


_NAMED = {"tags", "secrets", "sbatch", "environmentVariables", "condaDependencies"}
_RULES = Rules(snake, frozenset({*_NAMED, "inputs", "outputs"}))
