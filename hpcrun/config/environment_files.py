"""Environments as a folder of files, as Azure ML keeps them."""

from __future__ import annotations

import json
from pathlib import Path

from hpcrun.config.conda import CondaDependencies
from hpcrun.config.environment import Environment
from hpcrun.config.runconfig_environment import environment_of, environment_written
from hpcrun.config.runfile import file_text, write_text
from hpcrun.errors import ConfigError, Problem

FILE, CONDA = "azureml_environment.json", "conda_dependencies.yml"


def save_environment(environment: Environment, folder: Path, overwrite: bool) -> Path:
    """Writes an environment into a folder, and gives the folder. ConfigError: it has one already,
    or cannot be written."""
    if (folder / FILE).exists() and not overwrite:
        raise ConfigError(Problem(f"{folder} has an environment already", "overwrite=True"))
    written = environment_written(environment)
    dependencies = environment.python.conda_dependencies
    if dependencies is not None:
        dependencies.save(folder / CONDA)
    write_text(folder / FILE, json.dumps(written, indent=4) + "\n")
    return folder


def load_environment(folder: Path) -> Environment:
    """The environment of a folder, by hpcrun or by Azure ML. ConfigError."""
    file, conda = folder / FILE, folder / CONDA
    environment = environment_of(file_text(file), str(file))
    python = environment.python
    if conda.exists() and python.user_managed_dependencies is not True:
        python.conda_dependencies = CondaDependencies.load(conda)
        python.conda_dependencies_file = None
    return environment
