"""The Python API, in Azure ML's words."""

from hpcrun.api.experiment import Experiment
from hpcrun.api.model import Model
from hpcrun.api.run import Run
from hpcrun.api.workspace import Workspace

__all__ = ["Experiment", "Model", "Run", "Workspace"]
