"""A cluster as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hpcrun.site.access import Access
from hpcrun.site.container import Containers
from hpcrun.site.curated import CuratedEnvironment
from hpcrun.site.launch import LaunchRules, Modules
from hpcrun.site.provenance import Source
from hpcrun.site.scheduler import SchedulerRules
from hpcrun.site.storage import Storage
from hpcrun.site.target import Target


@dataclass(frozen=True)
class Detect:
    """What tells on a host that it is one of the site's."""

    hostname: str | None = None
    """A pattern of its full name, such as *.leonardo.local."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables and their values there."""


@dataclass(frozen=True)
class SiteConfig:
    """A cluster, as its site file tells it."""

    schema_version: int
    """The schema of the file: 1."""
    id: str
    """The name before the slash in `site/target`."""
    title: str = ""
    """The name for people."""
    inherits: tuple[str, ...] = ()
    """Sites whose files lie underneath, the last on top. Mappings merge, lists replace, and a key
    written `name+` appends to a list. A file's own name means the file that it hides."""
    docs_url: str = ""
    """The site's own documentation."""
    remarks: tuple[str, ...] = ()
    """What its users had better know, a sentence each, such as that idle jobs are canceled: doctor
    tells them."""
    status: Literal["active", "retiring", "restricted", "abstract"] = "active"
    """Whether it goes on, closes, is not for everybody, or is there for others to inherit."""
    valid_until: str | None = None
    """The day on which it closes, as yyyy-mm-dd."""
    sources: tuple[Source, ...] = ()
    """Where the facts come from."""
    hints: Mapping[str, str] = field(default_factory=dict)
    """What third parties say of a field, such as targets.gpu.time.max: shown, never written."""
    detect: Detect = Detect()
    """What tells that this is the site."""
    ssh: Access = field(default_factory=Access)
    """How it is reached."""
    shebang: str = "/bin/bash"
    """The interpreter of the batch script: `/bin/bash -l` where only login shells know modules."""
    setup: tuple[str, ...] = ()
    """Shell lines that run once in the batch shell, before modules."""
    scheduler: SchedulerRules = field(default_factory=SchedulerRules)
    """How a job is asked for."""
    modules: Modules = field(default_factory=Modules)
    """The module system."""
    launch: LaunchRules = field(default_factory=LaunchRules)
    """How commands are launched."""
    containers: Containers = field(default_factory=Containers)
    """Containers."""
    environments: Mapping[str, CuratedEnvironment] = field(default_factory=dict)
    """Environments that runs take by name."""
    storage: Storage = field(default_factory=Storage)
    """Where things lie."""
    default_target: str | None = None
    """The target when only the site is named."""
    targets: Mapping[str, Target] = field(default_factory=dict)
    """Its targets by name."""
