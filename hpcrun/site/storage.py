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
    login_reads_count: bool = True
    """Whether reading on a login node counts."""


@dataclass(frozen=True)
class Request:
    """How a job asks for a folder that it would not have otherwise."""

    gres: str | None = None
    """A part of --gres, such as nvme or nvme:100."""
    constraint: str | None = None
    """A part of --constraint, such as nvme."""
    directive: str | None = None
    """A whole directive, such as --bb=..."""


@dataclass(frozen=True)
class Root:
    """A folder that users have at a site."""

    path: str | None = None
    """Where it lies, such as /scratch/$USER."""
    env: str | None = None
    """The variable that names it."""
    env_after: str | None = None
    """What is run before that variable is there, such as module reset."""
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
    quota_of: Literal["user", "group", "project"] | None = None
    """Whose files these limits count; absent: that is not known."""
    request: Request | None = None
    """How a job asks for it: runs that name it in resources.storage, and those that work on it."""
    counts_as_memory: bool = False
    """Whether what lies there counts as memory of the job."""
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
    pack_environment: Literal["sbcast", "mpi4py"] | None = None
    """How the site wants environments brought to the nodes' own disks (environment.pack): runs of
    several nodes that do not are told so."""
