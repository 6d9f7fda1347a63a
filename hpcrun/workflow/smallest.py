"""The smallest run that a target takes: what a site file is tried with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpcrun.config import Resources, RunConfiguration, parse_time
from hpcrun.resolve.time_limit import longest
from hpcrun.site import SiteConfig, Target


def smallest(
    site: SiteConfig,
    name: str,
    command: Sequence[str],
    empty: Path,
    *,
    nodes: int = 1,
    time: str = "5m",
    account: str | None = None,
) -> RunConfiguration:
    """A command on as few nodes and for as short a time as asked, or as the target gives.

    name: the target's. empty: a folder without files, for its source.
    """
    target = site.targets[name]
    nodes = max(nodes, target.nodes.min)
    if target.nodes.max is not None:
        nodes = min(nodes, target.nodes.max)
    return RunConfiguration(
        source_directory=str(empty),
        command=[*command],
        compute_target=f"{site.id}/{name}",
        resources=Resources(
            node_count=nodes,
            gpus_per_node=_gpus(site, target, nodes),
            memory="1G" if site.scheduler.memory.mode == "required" else None,
            time=_time(target, nodes, time),
            account=account,
        ),
        system_metrics_seconds=0,
    )


def _gpus(site: SiteConfig, target: Target, nodes: int) -> int | None:
    if not target.gpus_required:
        return None
    rules = site.scheduler.gpu
    if rules.whole_nodes and nodes > 1 and target.node.gpus:
        return target.node.gpus
    return min(rules.allowed_counts, default=1)


def _time(target: Target, nodes: int, time: str) -> str:
    most, least = longest(target.time, nodes), target.time.min
    if most is not None and parse_time(most) < parse_time(time):
        return most
    if least is not None and parse_time(least) > parse_time(time):
        return least
    return time
