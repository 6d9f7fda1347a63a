"""hpcrun: the Azure ML way of training, on plain Slurm.

Importing it is cheap and pulls in no third-party module: the names below are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Checkpoints": "hpcrun.config",
    "CondaDependencies": "hpcrun.config",
    "DataInput": "hpcrun.config",
    "DataOutput": "hpcrun.config",
    "DatasetConsumptionConfig": "hpcrun.config",
    "Environment": "hpcrun.config",
    "Experiment": "hpcrun.api",
    "DockerConfiguration": "hpcrun.config",
    "HorovodConfiguration": "hpcrun.config",
    "HpcrunError": "hpcrun.errors",
    "Model": "hpcrun.api",
    "MpiConfiguration": "hpcrun.config",
    "OutputFileDatasetConfig": "hpcrun.config",
    "ParallelTaskConfiguration": "hpcrun.config",
    "PyTorchConfiguration": "hpcrun.config",
    "Requeue": "hpcrun.config",
    "Resources": "hpcrun.config",
    "Run": "hpcrun.api",
    "RunConfiguration": "hpcrun.config",
    "ScriptRunConfig": "hpcrun.config",
    "Stop": "hpcrun.config",
    "TensorflowConfiguration": "hpcrun.config",
    "Workspace": "hpcrun.api",
}

__all__ = [*sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hpcrun' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
