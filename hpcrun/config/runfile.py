"""run.yaml: a RunConfiguration as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcrun.config.model import AUTO, RunConfiguration
from hpcrun.errors import ConfigError, Problem
from hpcrun.reading import Read, read_partly


def load_config(file: Path, overrides: Sequence[str] = ()) -> Read[RunConfiguration]:
    """What a run.yaml asks for, as far as it could be read, and all that could not.

    overrides: `key.key=value`, which win over the file. ConfigError if nothing could be read.
    """
    return read_partly(RunConfiguration, file_text(file), str(file), overrides=overrides)


def anchor(config: RunConfiguration, folder: Path) -> None:
    """Makes the relative paths of a configuration relative to a folder instead of its file's."""

    def below(text: str) -> str:
        return text if text.startswith(("/", "~")) else str(folder / text)

    config.source_directory = below(config.source_directory)
    environment = config.environment
    if isinstance(environment, str):
        # A text without a slash is no folder: `check` says so.
        config.environment = below(environment) if "/" in environment else environment
    else:
        if environment.virtual_environment:
            environment.virtual_environment = below(environment.virtual_environment)
        if environment.python.interpreter_path and "/" in environment.python.interpreter_path:
            environment.python.interpreter_path = below(environment.python.interpreter_path)
        if environment.requirements:
            environment.requirements = below(environment.requirements)
        if environment.python.conda_dependencies_file:
            file = below(environment.python.conda_dependencies_file)
            environment.python.conda_dependencies_file = file
        docker = environment.docker
        if docker.base_image and docker.base_image.startswith(("./", "../")):
            docker.base_image = below(docker.base_image)
        docker.volumes = [
            below(volume) if volume.startswith(("./", "../")) else volume
            for volume in docker.volumes
        ]
        environment.pip = [
            below(line) if line.startswith(("./", "../")) else line for line in environment.pip
        ]
    for data in (config.inputs, config.outputs):
        for name, given in (data or {}).items():
            path = given if isinstance(given, str) else given.path
            if is_relative(path):
                _give(data, name, below(path))
    if config.resume_from not in (None, AUTO):
        config.resume_from = below(str(config.resume_from))
    if config.secrets:
        config.secrets = {name: below(path) for name, path in config.secrets.items()}


def write_text(file: Path, text: str) -> Path:
    """Writes a file that somebody named, in a folder that is made, and gives it. ConfigError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(Problem(f"cannot write {file}: {error.strerror}")) from error
    return file


def is_relative(path: str) -> bool:
    """Whether the path of data begins at the file's folder; any other is a name's, or whole."""
    return path.split("/")[0] in (".", "..")


def _give(data: Any, name: str, path: str) -> None:
    """Gives an input or output another path."""
    given = data[name]
    data[name] = path if isinstance(given, str) else replace(given, path=path)


def file_text(file: Path) -> str:
    """The text of a file that somebody named. ConfigError if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = "`hpcrun init` writes one" if file.name == "run.yaml" else ""
        raise ConfigError(Problem(f"there is no file {file}", hint)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(Problem("not UTF-8", "save it as UTF-8", str(file), line)) from None
    except OSError as error:
        raise ConfigError(Problem(f"cannot read {file}: {error.strerror}")) from error
