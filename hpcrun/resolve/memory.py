"""The memory of each node, and whether the target has it."""

from __future__ import annotations

from hpcrun.config import parse_memory
from hpcrun.directives import format_memory
from hpcrun.resolve.request import Request

COMES_WITH = {"by_cpus": "the CPUs", "by_gpus": "the GPUs", "whole_node": "the whole node"}
"""What memory comes with at sites where it is not asked for."""


def memory_of(request: Request, gpus: int, cpus: int) -> int | None:
    """Bytes on each node. gpus, cpus: how many a node gives."""
    asked, key = request.config.resources.memory, "resources.memory"
    rules, whole = request.site.scheduler.memory, _is_whole(request)
    mode = rules.mode
    if asked is None and rules.default is not None and (mode == "required" or not whole):
        share = {"mem": 1, "mem_per_cpu": cpus, "mem_per_gpu": gpus}[rules.flag]
        if share:
            size = parse_memory(rules.default) * share
            request.note("memory per node", format_memory(size), request.of_site)
            _check_memory(request, size, f", {rules.default} as the site has it ({rules.flag})")
            return size
    if asked is None:
        if mode == "required":
            request.refuse(f"{request.site.id} wants a memory request", f"set {key}", key)
        return None
    size = parse_memory(asked)
    if mode in COMES_WITH:
        told = f"{format_memory(size)} is not asked for: it comes with {COMES_WITH[mode]}"
        request.note("memory per node", told, request.of_site)
        return None
    told = "" if size or whole else " (all of it: on shared nodes the job waits for empty ones)"
    request.note("memory per node", format_memory(size) + told, key)
    if mode == "forbidden":
        message = f"{request.site.id} does not accept memory requests"
        request.refuse(message, f"remove {key}", key)
    _check_memory(request, size)
    return size


def _check_memory(request: Request, size: int, told: str = "") -> None:
    """Bytes on each node. told: where they come from, if not from the run."""
    limit = request.target.node.memory
    if limit is not None and size > parse_memory(limit):
        request.refuse(
            f"{format_memory(size)} of memory{told} asked of {request.of_target}, whose nodes "
            f"have {limit}",
            "ask for less, or choose another target",
            "resources.memory",
        )


def _is_whole(request: Request) -> bool:
    """Whether nobody else is on the nodes."""
    return bool(request.config.resources.exclusive or request.target.exclusive or request.local)
