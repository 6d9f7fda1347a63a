"""A four-node Slurm cluster on one machine, for tests and for trying things by hand."""

from __future__ import annotations

from tests.cluster.cluster import Cluster
from tests.cluster.failure import ClusterError, NotHere
from tests.cluster.packages import install

__all__ = ["Cluster", "ClusterError", "NotHere", "install"]
