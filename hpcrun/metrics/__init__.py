"""Logging from a training script, and reading what was logged. Standard library only (3.8+)."""

from hpcrun.metrics.context import Context, RunEnvironmentException
from hpcrun.metrics.ranks import RankFacts
from hpcrun.metrics.run import Run
from hpcrun.metrics.series import Metric, azure_shape, azure_shapes, metrics_of
from hpcrun.metrics.values import Value

__all__ = [
    "Context",
    "Metric",
    "RankFacts",
    "Run",
    "RunEnvironmentException",
    "Value",
    "azure_shape",
    "azure_shapes",
    "metrics_of",
]
