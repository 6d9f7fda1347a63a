"""A training script's processes: which one this is, and numbers over all of them.

    from hpcrun import distributed

    device = distributed.ranks().local_rank
    accuracy = distributed.reduce(correct / seen, "mean")

Importing it imports no framework, whatever started the script. Standard library only (3.8+).
"""

from __future__ import annotations

import os

from hpcrun.metrics.ranks import RankFacts
from hpcrun.metrics.world import WorldError
from hpcrun.metrics.world import reduced as reduce

__all__ = ["RankFacts", "WorldError", "ranks", "reduce"]


def ranks() -> RankFacts:
    """This process among all, as its environment tells it; 0 of 1 if that tells nothing."""
    return RankFacts.of(os.environ)
