"""What is asked: ScriptRunConfig, run.yaml and .runconfig files, one value in three forms."""

from hpcrun.config.checking import EXPERIMENT, EXPERIMENT_HINT, checked
from hpcrun.config.conda import CondaDependencies
from hpcrun.config.container import (
    RUNTIMES,
    ContainerRegistry,
    DockerConfiguration,
    DockerSection,
    is_file,
)
from hpcrun.config.data import (
    DataInput,
    DataOutput,
    DatasetConsumptionConfig,
    OutputFileDatasetConfig,
)
from hpcrun.config.distributed import (
    LAUNCHERS,
    DistributedConfiguration,
    HorovodConfiguration,
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
    nodes_key,
    processes_key,
)
from hpcrun.config.environment import DEFAULT_ENVIRONMENT, Environment
from hpcrun.config.model import (
    AUTO,
    After,
    Checkpoints,
    Mail,
    MetricFiles,
    Requeue,
    Resources,
    RunConfiguration,
    SnapshotLimits,
    Stop,
)
from hpcrun.config.quantities import parse_memory, parse_time
from hpcrun.config.runfile import load_config
from hpcrun.config.scriptrun import ScriptRunConfig

__all__ = [
    "AUTO",
    "DEFAULT_ENVIRONMENT",
    "EXPERIMENT",
    "EXPERIMENT_HINT",
    "LAUNCHERS",
    "RUNTIMES",
    "After",
    "Checkpoints",
    "CondaDependencies",
    "ContainerRegistry",
    "DataInput",
    "DataOutput",
    "DatasetConsumptionConfig",
    "DistributedConfiguration",
    "DockerConfiguration",
    "DockerSection",
    "Environment",
    "HorovodConfiguration",
    "Mail",
    "MetricFiles",
    "MpiConfiguration",
    "OutputFileDatasetConfig",
    "ParallelTaskConfiguration",
    "PyTorchConfiguration",
    "Requeue",
    "Resources",
    "RunConfiguration",
    "ScriptRunConfig",
    "SnapshotLimits",
    "Stop",
    "TensorflowConfiguration",
    "checked",
    "is_file",
    "load_config",
    "nodes_key",
    "parse_memory",
    "parse_time",
    "processes_key",
]
