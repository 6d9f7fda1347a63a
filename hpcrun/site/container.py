"""Containers at a site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Runtime:
    """How a container runtime is used at a site."""

    how: Literal["prefix", "step"] | None = None
    """Whether its words stand before the command's, or are flags of srun; default: as is known of
    it, and prefix for a template of one's own."""
    modules: tuple[str, ...] = ()
    """Modules that it needs, in order."""
    gpu_arguments: tuple[str, ...] | None = None
    """Its words for runs that ask for GPUs; default: such as --nv, or --rocm for AMD's."""
    arguments: tuple[str, ...] = ()
    """Its words for every run."""
    binds: tuple[str, ...] = ()
    """What every container sees of the node: PATH, PATH:PLACE or PATH:PLACE:ro."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for runs in its containers."""
    mpi_type: str | None = None
    """srun's --mpi= value for the MPI in its containers."""
    image_root: str | None = None
    """The folder of images that are named without one, such as $SCRATCH/images."""


@dataclass(frozen=True)
class Containers:
    """Containers at this site."""

    runtime: str | None = None
    """Which runtime a run's image is given to when the run does not say."""
    runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    """What is to be known of each, by its name; not all need to stand here."""
