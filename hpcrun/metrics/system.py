"""What nodes did while a run went on. Pure; standard library only (Python 3.8+).

The data of a fact of kind "system" are described in `hpcrun.agent.system`; `host` is the node.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from hpcrun.metrics.series import SCALAR, Metric
from hpcrun.record import Fact

IDLE = 5
"""A GPU that computes for less than this percentage of the time counts as idle."""

OUT_OF = ("cpus", "of", "host")


def system_metrics(facts: Iterable[Fact]) -> Dict[str, Metric]:
    """`system/<host>/cpu_percent`, `system/<host>/gpu0_percent` …, by name; no steps."""
    series: Dict[str, List[Tuple[Fact, Any]]] = {}
    for fact in sorted(_samples(facts), key=lambda fact: (fact.attempt, fact.writer, fact.number)):
        for name, value in _values(fact):
            series.setdefault(f"system/{fact.data['host']}/{name}", []).append((fact, value))
    return {name: _metric(name, series[name]) for name in sorted(series)}


class Use(NamedTuple):
    """What all nodes did on the whole. None: not known.

    cpus: of all nodes. cpu: percent of them, on average. memory: bytes, the most on one node.
    gpus: how many told how busy they were. idle: percent of the time, averaged over them.
    """

    samples: int
    cpus: int
    cpu: Optional[float]
    memory: Optional[int]
    memory_limit: Optional[int]
    gpus: int
    idle: Optional[float]


def use_of(facts: Iterable[Fact]) -> Use:
    """A run's use of what it was given."""
    samples = list(_samples(facts))
    cpus = {f.data["host"]: f.data["cpus"] for f in samples if "cpus" in f.data}
    parts = [(f.data["cpu_percent"], f.data["cpus"]) for f in samples if "cpu_percent" in f.data]
    weight = sum(count for _, count in parts)
    memory = [(f.data["memory_bytes"], f.data) for f in samples if "memory_bytes" in f.data]
    most = max(memory, key=lambda pair: pair[0], default=None)
    gpus = [
        ((fact.data["host"], place), percent)
        for fact in samples
        for place, percent in enumerate(fact.data.get("gpu_percent", ()))
        if percent is not None
    ]
    idle = [percent < IDLE for _, percent in gpus]
    return Use(
        samples=len(samples),
        cpus=sum(cpus.values()),
        cpu=sum(percent * count for percent, count in parts) / weight if weight else None,
        memory=most[0] if most else None,
        memory_limit=most[1].get("memory_limit_bytes") if most else None,
        gpus=len({gpu for gpu, _ in gpus}),
        idle=100 * sum(idle) / len(idle) if idle else None,
    )


def _samples(facts: Iterable[Fact]) -> Iterator[Fact]:
    return (fact for fact in facts if fact.kind == "system")


def _values(fact: Fact) -> Iterator[Tuple[str, Any]]:
    for name, value in fact.data.items():
        if isinstance(value, list):
            kind = name.partition("_")[2]
            numbered = [(f"gpu{place}_{kind}", one) for place, one in enumerate(value)]
            yield from (pair for pair in numbered if pair[1] is not None)
        elif name not in OUT_OF:
            yield name, value


def _metric(name: str, found: List[Tuple[Fact, Any]]) -> Metric:
    return Metric(
        name=name,
        kind=SCALAR,
        columns={name: [value for _, value in found]},
        steps=[None] * len(found),
        ranks=[0] * len(found),
        attempts=[fact.attempt for fact, _ in found],
        times=[fact.time for fact, _ in found],
    )
