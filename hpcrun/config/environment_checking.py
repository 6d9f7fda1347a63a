"""What is wrong with an environment whatever the target is. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpcrun.config.environment import Environment
from hpcrun.reading import Finding


def of_environment(environment: Environment | str) -> Iterator[Finding]:
    """What contradicts itself in an environment."""
    if isinstance(environment, str):
        return
    python, version = environment.python, "environment.python.version"
    for key in ("virtual_environment", "conda"):
        if environment.is_managed and getattr(environment, key):
            message = "an environment is either built of packages, or one that is there"
            beside = ("environment.pip", "environment.requirements")
            yield Finding(f"environment.{key}", message, "keep one of them", beside)
    docker = environment.docker
    used = docker.enabled is not False and docker.base_image
    if used and (environment.is_managed or environment.conda):
        message = "an image has its packages, and others cannot be installed into it"
        packages = ("environment.pip", "environment.requirements", "environment.conda")
        hint = "make them part of the image, or leave docker.base_image out"
        yield Finding("environment.docker.base_image", message, hint, packages)
    registry = docker.base_image_registry
    for name in ("username", "password"):
        if used and getattr(registry, name):
            message = "a login for a registry would stand in the run history"
            hint = "log in with the runtime itself, such as `apptainer registry login`"
            yield Finding(f"environment.docker.base_image_registry.{name}", message, hint)
    if environment.conda and environment.virtual_environment:
        message = "conda and virtual_environment both name one"
        yield Finding("environment.conda", message, "keep one of them")
    yield from _conda(environment)
    if python.version is None:
        return
    if not re.fullmatch(r"\d+\.\d+", python.version):
        yield Finding(version, f"{python.version!r} is no version of Python", "such as 3.11")
    elif python.interpreter_path:
        message = "python.version and python.interpreter_path both say which interpreter"
        yield Finding(
            version, message, "keep one of them", ("environment.python.interpreter_path",)
        )
    elif not environment.is_managed:
        message = "python.version says what packages are installed for, and there are none"
        yield Finding(version, message, "pip: […], requirements: FILE, or interpreter_path")


def _conda(environment: Environment) -> Iterator[Finding]:
    python, key = environment.python, "environment.python.conda_dependencies"
    if not environment.is_of_conda or not environment.is_managed:
        return
    if python.conda_dependencies is not None and python.conda_dependencies_file is not None:
        message = "conda_dependencies and conda_dependencies_file both say what conda installs"
        yield Finding(key, message, "keep one of them", (f"{key}_file",))
    if python.interpreter_path:
        message = "conda installs an interpreter of its own"
        hint = "leave interpreter_path out; python.version says which"
        yield Finding("environment.python.interpreter_path", message, hint)
    told = python.conda_dependencies
    if told is not None and told.python_version and python.version:
        message = "python.version and the dependencies both say which interpreter"
        yield Finding("environment.python.version", message, "keep one of them", (key,))
