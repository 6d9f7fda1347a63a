"""What a cluster is: the typed value behind a site file. Values only; reading is in `reading`.

Field names follow one schema for all sites; a field that is absent is not known and nothing is
emitted for it. `local` is a site as well: this machine, without a scheduler.
"""

from __future__ import annotations

from hpcrun.site.config import SiteConfig
from hpcrun.site.container import Containers, Runtime
from hpcrun.site.curated import CuratedEnvironment
from hpcrun.site.launch import LaunchRules, MasterAddress, MasterPort, Modules, Mpi
from hpcrun.site.provenance import Source, source_of
from hpcrun.site.scheduler import Adapter, SchedulerRules
from hpcrun.site.storage import Storage
from hpcrun.site.target import NodeShape, Target

__all__ = [
    "Adapter",
    "Containers",
    "CuratedEnvironment",
    "LaunchRules",
    "MasterAddress",
    "MasterPort",
    "Modules",
    "Mpi",
    "NodeShape",
    "Runtime",
    "SchedulerRules",
    "SiteConfig",
    "Source",
    "Storage",
    "Target",
    "source_of",
]
