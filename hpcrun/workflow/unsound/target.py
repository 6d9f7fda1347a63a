"""What is wrong with targets: numbers, times, and what contradicts itself."""

from __future__ import annotations

from collections.abc import Iterator

from hpcrun.config import parse_time
from hpcrun.reading import Finding, nearest
from hpcrun.site import SiteConfig, Target
from hpcrun.workflow.unsound.values import at_least, is_more, sizes, times


def targets(site: SiteConfig) -> Iterator[Finding]:
    """Those of each of its targets."""
    for name, target in site.targets.items():
        key = f"targets.{name}"
        yield from _counts(key, target)
        yield from _times(key, target)
        yield from _gpus(key, target)
        node = target.node
        yield from sizes({f"{key}.node.memory": node.memory})
        yield from sizes({f"{key}.node.gpu_memory": node.gpu_memory})
        hosts = site.ssh.endpoints
        if target.endpoint is not None and hosts and target.endpoint not in hosts:
            told = f"ssh.endpoints has no {target.endpoint!r}"
            yield Finding(f"{key}.endpoint", told, nearest(target.endpoint, hosts))


def _counts(key: str, target: Target) -> Iterator[Finding]:
    nodes, node, limits = target.nodes, target.node, target.time
    least: dict[str, tuple[float | None, float]] = {
        "nodes.min": (nodes.min, 1),
        "nodes.max": (nodes.max, nodes.min),
        "node.cpus": (node.cpus, 1),
        "node.gpus": (node.gpus, 0),
        "time.node_minutes": (limits.node_minutes, nodes.min),
    }
    for number, rule in enumerate(limits.rules):
        least[f"time.rules[{number}].nodes_min"] = (rule.nodes_min, 1)
        least[f"time.rules[{number}].nodes_max"] = (rule.nodes_max, rule.nodes_min)
    yield from at_least({f"{key}.{name}": pair for name, pair in least.items()})


def _times(key: str, target: Target) -> Iterator[Finding]:
    limits = target.time
    given = {"default": limits.default, "min": limits.min, "max": limits.max}
    given |= {f"rules[{number}].max": rule.max for number, rule in enumerate(limits.rules)}
    yield from times({f"{key}.time.{name}": text for name, text in given.items()})
    if is_more(limits.default, limits.max, parse_time):
        message = f"the default, {limits.default}, is above the max, {limits.max}"
        hint = "no job could start without its own time"
        yield Finding(f"{key}.time.default", message, hint)
    if is_more(limits.min, limits.default, parse_time):
        message = f"the default, {limits.default}, is below the min, {limits.min}"
        yield Finding(f"{key}.time.default", message, "a run that names no time would be refused")
    for name, most in given.items():
        if name.endswith("max") and is_more(limits.min, most, parse_time):
            yield Finding(f"{key}.time.min", f"the min, {limits.min}, is above {name}, {most}")


def _gpus(key: str, target: Target) -> Iterator[Finding]:
    node = target.node
    if node.gpus == 0 and target.gpus_required:
        yield Finding(f"{key}.gpus_required", "its nodes have no GPUs that a job could ask for")
    if node.gpus == 0 and target.kind == "gpu":
        yield Finding(f"{key}.kind", "it is there for its GPUs, and its nodes have none")
    if node.gpus == 0 and (node.gpu_model is not None or node.gpu_memory is not None):
        yield Finding(f"{key}.node.gpus", "its GPUs are described, and there are none")
