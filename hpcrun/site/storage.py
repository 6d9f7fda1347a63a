"""Where things lie at a site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Purge:
    """Which files a site removes by itself."""

    days: int
    """Those that are older."""
    basis: Literal["atime", "mtime"] = "atime"
    """By their last reading, or their last change."""


@dataclass(frozen=True)
class Root:
    """A folder that users have at a site."""

    path: str | None = None
    """Where it lies, such as /scratch/$USER."""
    env: str | None = None
    """The variable that names it."""
    scope: Literal["shared", "node"] = "shared"
    """Whether all nodes see it, or each has its own."""
    writable_on_compute: bool = True
    """Whether jobs can write there."""
    purge: Purge | None = None
    """What is removed from it."""
    size: str | None = None
    """How much it holds, such as 20T."""
    files: int | None = None
    """How many files it holds."""
    flock: bool = True
    """Whether locks on it work."""


@dataclass(frozen=True)
class Storage:
    """Where things lie at this site."""

    roots: Mapping[str, Root] = field(default_factory=dict)
    """Its folders by name, such as home, scratch, work."""
    run_history_root: str | None = None
    """The workspace when none is configured: shared, not purged, writable from all nodes."""
    node_tmp: str = "/tmp"
    """A folder on each node's own disk."""
    scratch: str | None = None
    """A purged folder that all nodes share, such as $SCRATCH/hpcrun: $USER, and variables with
    SCRATCH in their names, are those where you submit."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Folders of data that all nodes see, by name, for the inputs and outputs of runs."""
    caches: Mapping[str, str] = field(default_factory=dict)
    """Variables of jobs for folders of caches, such as HF_HOME, to those folders; in them $USER and
    the like as in `scratch`."""
    quota_command: str | None = None
    """What you run to see how much is left."""
