"""What a target says against its site, as the target wants it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hpcrun.config import parse_memory
from hpcrun.site import SiteConfig
from hpcrun.workflow.unsound.values import is_more

Contradiction = tuple[str, str, str]
"""A key, what is wrong with it, and the cure."""


def contradictions(site: SiteConfig, name: str) -> Iterator[Contradiction]:
    """Each of them. site: as the target of that name wants it."""
    key, target, rules = f"targets.{name}", site.targets[name], site.scheduler
    reasons = rules.directives.forbid
    for field in ("partition", "qos", "constraint", "reservation"):
        value = getattr(target, field)
        for forbidden in (f"--{field}", f"--{field}={value}"):
            if value is not None and forbidden in reasons:
                message = f"{field} is {value}, and {site.id} does not accept {forbidden}"
                yield f"{key}.{field}", f"{message} ({reasons[forbidden]})", "leave one of them"
    default, most = rules.memory.default, target.node.memory
    if is_more(default, most, parse_memory):
        message = f"a run that names no memory asks for {default}, and its nodes have {most}"
        yield "scheduler.memory.default", message, "a smaller one"
    counts, gpus = rules.gpu.allowed_counts, target.node.gpus
    if counts and gpus and min(counts) > gpus:
        message = (
            f"its nodes have {gpus} GPUs, and none of the counts that are accepted is as small"
        )
        yield f"{key}.node.gpus", message, "mend scheduler.gpu.allowed_counts"
