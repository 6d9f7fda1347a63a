"""Azure ML's .runconfig files: read, and written with their comments kept.

Keys on disk are camelCase, snake_case is read too. Of Azure ML's keys those that have a meaning on
a Slurm cluster are read; the others are passed over. What hpcrun adds (resources, sbatch, …) stands
beside them under its own names.
"""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from hpcrun.config.distributed import (
    DistributedConfiguration,
    MpiConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
)
from hpcrun.config.environment import DEFAULT_ENVIRONMENT, Environment, PythonSection
from hpcrun.config.model import Mail, Resources, RunConfiguration, SnapshotLimits
from hpcrun.config.runfile import file_text
from hpcrun.errors import ConfigError, Problem
from hpcrun.reading import nearest, read_text

FOLDERS = (".azureml", "aml_config")
"""Where .runconfig files lie in a project; Azure ML's first versions used the second."""

SUFFIX = ".runconfig"


@dataclass
class _Python:
    user_managed_dependencies: bool = False
    interpreter_path: str | None = None
    conda_dependencies: Any = None
    conda_dependencies_file: str | None = None
    base_conda_environment: str | None = None


@dataclass
class _Environment:
    name: str | None = None
    version: str | None = None
    python: _Python = field(default_factory=_Python)
    environment_variables: dict[str, str] = field(default_factory=dict)
    virtual_environment: str | None = None
    modules: list[str] = field(default_factory=list)
    docker: Any = None
    spark: Any = None
    r: Any = None
    databricks: Any = None
    inferencing_stack_version: Any = None
    asset_id: Any = None
    auto_rebuild: Any = None


@dataclass
class _File:
    """A .runconfig as it is written. What is Any is Azure ML's and means nothing here."""

    script: str | None = None
    arguments: list[str] = field(default_factory=list)
    command: list[str] | str | None = None
    target: str | None = None
    framework: str | None = None
    communicator: (
        Literal["None", "OpenMpi", "IntelMpi", "Mpi", "Nccl", "Gloo", "ParameterServer"] | None
    ) = None
    max_run_duration_seconds: int | None = None
    node_count: int = 1
    environment: _Environment = field(default_factory=_Environment)
    environment_variables: dict[str, str] | None = None
    mpi: MpiConfiguration = field(default_factory=MpiConfiguration)
    pytorch: PyTorchConfiguration = field(default_factory=PyTorchConfiguration)
    tensorflow: TensorflowConfiguration = field(default_factory=TensorflowConfiguration)
    source_directory: str = "."
    resources: Resources = field(default_factory=Resources)
    experiment: str | None = None
    display_name: str | None = None
    description: str | None = None
    tags: dict[str, str] | None = None
    secrets: dict[str, str] | None = None
    mail: Mail | None = None
    sbatch: dict[str, str | None] | None = None
    snapshot: SnapshotLimits = field(default_factory=SnapshotLimits)
    path: Any = None
    priority: Any = None
    history: Any = None
    spark: Any = None
    docker: Any = None
    hdi: Any = None
    paralleltask: Any = None
    parallel_task: Any = None
    data_references: Any = None
    data: Any = None
    datacaches: Any = None
    output_data: Any = None
    source_directory_data_store: Any = None
    amlcompute: Any = None
    kubernetescompute: Any = None
    credential_passthrough: Any = None
    application_endpoints: Any = None


_SAME = (
    *("script", "command", "target", "max_run_duration_seconds", "environment_variables"),
    *("source_directory", "resources", "experiment", "display_name", "description", "tags"),
    *("secrets", "mail", "sbatch", "snapshot"),
)
"""The keys that mean the same in a .runconfig and in a RunConfiguration."""


# -- reading ------------------------------------------------------------------------------------


def find_runconfig(name: str, folder: Path) -> Path:
    """The .runconfig of that name in a project folder. ConfigError names the nearest."""
    places = [folder / sub for sub in (*FOLDERS, ".")]
    for place in places:
        for file in (place / name, place / f"{name}{SUFFIX}"):
            if file.is_file():
                return file
    known = sorted({f.stem for place in places for f in place.glob(f"*{SUFFIX}")})
    where = f"{folder / FOLDERS[0]}"
    raise ConfigError(Problem(f"there is no .runconfig {name!r} in {where}", nearest(name, known)))


def load_runconfig(name: str, folder: Path) -> RunConfiguration:
    """What the .runconfig of that name asks for; its source is the project folder."""
    config = read_runconfig(find_runconfig(name, folder))
    config.source_directory = str(folder / config.source_directory)
    return config


def read_runconfig(file: Path) -> RunConfiguration:
    """What a .runconfig asks for. ConfigError with all its problems."""
    read = read_text(_File, file_text(file), str(file), rename=_snake)
    python = read.value.environment.python
    if not python.user_managed_dependencies and (
        python.conda_dependencies or python.conda_dependencies_file
    ):
        origin = read.origins["environment.python"]
        message = "this asks for an environment to be built, which hpcrun does not do yet"
        hint = "set userManagedDependencies: true and interpreterPath"
        raise ConfigError(Problem(message, hint, origin.source, origin.line))
    return _configuration(read.value)


def _configuration(read: _File) -> RunConfiguration:
    config = RunConfiguration(**{_TARGET.get(n, n): getattr(read, n) for n in _SAME})
    config.arguments = read.arguments if read.script is not None else None
    if config.command == "" or config.command == []:
        config.command = None
    config.environment = _environment(read.environment)
    config.distributed_job_config = _distributed(read)
    if config.distributed_job_config is None and read.node_count > 1:
        config.resources.node_count = read.node_count
    return config


_TARGET = {"target": "compute_target"}


def _environment(read: _Environment) -> Environment:
    managed = read.python.user_managed_dependencies
    return Environment(
        name=read.name or DEFAULT_ENVIRONMENT,
        python=PythonSection(read.python.interpreter_path if managed else None),
        virtual_environment=read.virtual_environment,
        modules=read.modules,
        environment_variables=read.environment_variables,
    )


def _distributed(read: _File) -> DistributedConfiguration | None:
    communicator = read.communicator or "None"
    if communicator in ("OpenMpi", "IntelMpi", "Mpi"):
        read.mpi.node_count = max(read.mpi.node_count, read.node_count)
        return read.mpi
    if communicator in ("Nccl", "Gloo"):
        read.pytorch.node_count = max(read.pytorch.node_count, read.node_count)
        read.pytorch.communication_backend = "Nccl" if communicator == "Nccl" else "Gloo"
        return read.pytorch
    return read.tensorflow if communicator == "ParameterServer" else None


# -- writing ------------------------------------------------------------------------------------


def save_runconfig(config: RunConfiguration, folder: Path, name: str) -> Path:
    """Writes `<folder>/.azureml/<name>.runconfig` and gives it; a file that is there keeps its
    comments and the keys that mean nothing here. ConfigError if it cannot be written."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 1 << 20
    file = folder / FOLDERS[0] / f"{name}{SUFFIX}"
    held = yaml.load(file_text(file)) if file.is_file() else None
    content = held if isinstance(held, dict) else {}
    _update(content, dict(_written(config)))
    out = io.StringIO()
    yaml.dump(content, out)
    aside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(out.getvalue(), encoding="utf-8")
        os.replace(aside, file)
    except OSError as error:
        raise ConfigError(Problem(f"cannot write {file}: {error.strerror}")) from error
    finally:
        aside.unlink(missing_ok=True)
    return file


def _written(config: RunConfiguration) -> Iterator[tuple[str, Any]]:
    """The keys that are hpcrun's to write, with None for those to be taken out."""
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
    python = {**_plain(environment.python), "userManagedDependencies": True}
    yield "environment", {**_plain(environment), "python": python}
    for section, kind in (
        ("mpi", MpiConfiguration),
        ("pytorch", PyTorchConfiguration),
        ("tensorflow", TensorflowConfiguration),
    ):
        yield section, _plain(distributed) if isinstance(distributed, kind) else None
    defaults = RunConfiguration()
    for name in _SAME:
        value = getattr(config, name)
        if name not in ("script", "target"):
            yield _camel(name), None if value == getattr(defaults, name) else _plain(value)


def _plain(value: Any) -> Any:
    """Dataclasses as mappings with camelCase keys, without what is None."""
    if hasattr(value, "__dataclass_fields__"):
        named = {_camel(f.name): _plain(getattr(value, f.name)) for f in fields(value)}
        return {name: item for name, item in named.items() if item is not None}
    return value


def _update(held: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    """Puts what is wanted into a mapping with as few changes as possible."""
    by_snake = {_snake(name): name for name in held}
    for name, value in wanted.items():
        name = by_snake.get(_snake(name), name)
        if value is None:
            held.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(held.get(name), dict):
            nested = held[name]
            if name not in _FREE:
                _update(nested, value)
            else:
                for gone in [key for key in nested if key not in value]:
                    del nested[gone]
                nested.update(value)
        elif held.get(name) != value:
            held[name] = value


_FREE = frozenset({"tags", "secrets", "sbatch", "environmentVariables", "environment_variables"})
"""Mappings whose keys are the user's own."""


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: f"_{m[1].lower()}", name)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
