"""ScriptRunConfig: Azure ML's door to a RunConfiguration."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, overload

from hpcrun.config.container import DockerConfiguration
from hpcrun.config.data import (
    DataInput,
    DataOutput,
    DatasetConsumptionConfig,
    OutputFileDatasetConfig,
)
from hpcrun.config.distributed import DistributedConfiguration
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
from hpcrun.errors import ConfigError, Problem

T = TypeVar("T")


class _Part(Generic[T]):
    """An attribute that is the same one of `run_config`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> _Part[T]: ...

    @overload
    def __get__(self, instance: ScriptRunConfig, owner: type) -> T: ...

    def __get__(self, instance: ScriptRunConfig | None, owner: type) -> T | _Part[T]:
        if instance is None:
            return self
        value: T = getattr(instance.run_config, self.name)
        return value

    def __set__(self, instance: ScriptRunConfig, value: T) -> None:
        setattr(instance.run_config, self.name, value)


def _take_data(asked: Any) -> None:
    """Inputs and outputs that stand among the words become those of the run, and placeholders."""
    for key in ("arguments", "command"):
        words = getattr(asked, key)
        if not isinstance(words, (list, tuple)):
            continue
        for word in words:
            for kind, part in (
                (DatasetConsumptionConfig, "inputs"),
                (OutputFileDatasetConfig, "outputs"),
            ):
                if isinstance(word, kind):
                    setattr(asked, part, {**(getattr(asked, part) or {}), word.name: word.data})
        setattr(asked, key, [_placeholder(word) for word in words])


def _placeholder(word: object) -> object:
    if isinstance(word, DatasetConsumptionConfig):
        return f"${{{{inputs.{word.name}}}}}"
    if isinstance(word, OutputFileDatasetConfig):
        return f"${{{{outputs.{word.name}}}}}"
    return word


class ScriptRunConfig:
    """What to run, from where, and everything else in `run_config`, which may be changed freely.

    source_directory: the folder that becomes the snapshot. script: relative to it. arguments: words
    for the script, numbers too, and inputs and outputs as in Azure ML. command: in place of both; a
    list is exact words, a text a line for bash. run_config: a configuration to build on; then what
    Azure ML keeps in it (compute_target, environment, distributed_job_config,
    max_run_duration_seconds, docker_runtime_config) is not taken from the arguments beside it, with
    a warning. docker_runtime_config: whether the image of the environment is used, as `docker`. The
    others are the attributes of RunConfiguration.
    """

    compute_target = _Part[str | None]()
    environment = _Part[Environment | str]()
    docker = _Part[DockerConfiguration | None]()
    distributed_job_config = _Part[DistributedConfiguration | None]()
    resources = _Part[Resources]()
    max_run_duration_seconds = _Part[int | None]()
    preflight = _Part[bool | None]()
    stop = _Part[Stop]()
    requeue = _Part[Requeue]()
    resume_from = _Part[str | None]()
    checkpoints = _Part[Checkpoints]()
    inputs = _Part[dict[str, DataInput | str] | None]()
    outputs = _Part[dict[str, DataOutput | str] | None]()
    after = _Part[After | None]()
    experiment = _Part[str | None]()
    display_name = _Part[str | None]()
    description = _Part[str | None]()
    tags = _Part[dict[str, str] | None]()
    private = _Part[bool | None]()
    environment_variables = _Part[dict[str, str] | None]()
    secrets = _Part[dict[str, str] | None]()
    mail = _Part[Mail | None]()
    working_directory = _Part[Place]()
    sbatch = _Part[dict[str, str | None] | None]()
    snapshot = _Part[SnapshotLimits]()
    metric_files = _Part[list[MetricFiles | str] | None]()
    system_metrics_seconds = _Part[int]()

    def __init__(
        self,
        source_directory: str | Path,
        script: str | Path | None = None,
        arguments: Sequence[object] | None = None,
        run_config: RunConfiguration | None = None,
        *,
        command: Sequence[object] | str | None = None,
        compute_target: str | None = None,
        environment: Environment | str | None = None,
        distributed_job_config: DistributedConfiguration | None = None,
        max_run_duration_seconds: int | None = None,
        docker_runtime_config: DockerConfiguration | None = None,
        resources: Resources | None = None,
        preflight: bool | None = None,
        stop: Stop | None = None,
        requeue: Requeue | None = None,
        resume_from: str | None = None,
        checkpoints: Checkpoints | None = None,
        inputs: Mapping[str, DataInput | str] | None = None,
        outputs: Mapping[str, DataOutput | str] | None = None,
        after: After | None = None,
        experiment: str | None = None,
        display_name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        private: bool | None = None,
        environment_variables: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        mail: Mail | None = None,
        working_directory: Place | None = None,
        sbatch: Mapping[str, str | None] | None = None,
        snapshot: SnapshotLimits | None = None,
        metric_files: Sequence[MetricFiles | str] | None = None,
        system_metrics_seconds: int | None = None,
    ) -> None:
        self.source_directory = source_directory
        self.script = script
        self.arguments = arguments
        self.command = command
        in_run_config: dict[str, Any] = {
            "compute_target": compute_target,
            "environment": environment,
            "distributed_job_config": distributed_job_config,
            "max_run_duration_seconds": max_run_duration_seconds,
            "docker": docker_runtime_config,
        }
        ignored = [name for name, value in in_run_config.items() if value is not None]
        if run_config is not None and ignored:
            warnings.warn(
                f"run_config is given: {', '.join(ignored)} beside it is not used", stacklevel=2
            )
            in_run_config = {}
        own: dict[str, Any] = {
            "resources": resources,
            "preflight": preflight,
            "stop": stop,
            "requeue": requeue,
            "resume_from": resume_from,
            "checkpoints": checkpoints,
            "inputs": inputs,
            "outputs": outputs,
            "after": after,
            "experiment": experiment,
            "display_name": display_name,
            "description": description,
            "tags": tags,
            "private": private,
            "environment_variables": environment_variables,
            "secrets": secrets,
            "mail": mail,
            "working_directory": working_directory,
            "sbatch": sbatch,
            "snapshot": snapshot,
            "metric_files": metric_files,
            "system_metrics_seconds": system_metrics_seconds,
        }
        self.run_config = run_config if run_config is not None else RunConfiguration()
        for name, value in (in_run_config | own).items():
            if value is not None:
                held = dict(value) if isinstance(value, Mapping) else value
                setattr(self.run_config, name, held)

    @classmethod
    def load(cls, file: str | Path = "run.yaml") -> ScriptRunConfig:
        """What a run.yaml asks for. ConfigError with all that is wrong with it."""
        from hpcrun.config.checking import readable
        from hpcrun.config.runfile import anchor, load_config

        config = readable(load_config(Path(file)))
        anchor(config, Path(file).parent)
        return cls(config.source_directory, run_config=config)

    def asked(self) -> RunConfiguration:
        """A copy of run_config with what is given here in its place: all that is asked.

        Not checked: `check_value` does it. Script and command both given here are both kept.
        """
        base: Any = self.run_config
        if not isinstance(base, RunConfiguration):
            message = f"run_config must be a RunConfiguration, not a {type(base).__name__}"
            raise ConfigError(Problem(message, "RunConfiguration.load reads a .runconfig by name"))
        asked: Any = copy.deepcopy(base)
        asked.source_directory = self.source_directory
        if self.command is not None:
            asked.script, asked.arguments, asked.command = None, None, self.command
        if self.script is not None:
            asked.script, asked.command = self.script, self.command
        if self.arguments is not None:
            asked.arguments = self.arguments
        _take_data(asked)
        return cast(RunConfiguration, asked)

    def __repr__(self) -> str:
        base = self.run_config
        given = (self.command, self.script, base.command, base.script)
        what = next((value for value in given if value is not None), None)
        return f"ScriptRunConfig({str(self.source_directory)!r}, {what!r})"
