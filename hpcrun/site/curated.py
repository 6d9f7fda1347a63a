"""Environments that a site keeps for everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CuratedEnvironment:
    """An environment that runs on this site take by its name."""

    description: str = ""
    """One line for people."""
    interpreter_path: str | None = None
    """The interpreter: a path, or a name to be found on the job's PATH."""
    virtual_environment: str | None = None
    """The folder of a virtual or conda environment."""
    modules: tuple[str, ...] = ()
    """Modules to load, in order, after the site's own."""
    module_profile: str | None = None
    """A set of modules of modules.profiles."""
    image: str | None = None
    """The image in which the command runs, as docker.base_image."""
    runtime: str | None = None
    """What makes a container of it; default: containers.runtime."""
    volumes: tuple[str, ...] = ()
    """What the command sees of the node besides, as docker.volumes."""
    view: str | None = None
    """The views of a uenv."""
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    """Variables, exactly as they are written."""
