"""The time limit, and whether the target gives it."""

from __future__ import annotations

from datetime import timedelta

from hpcrun.config import nodes_key, parse_time
from hpcrun.directives import format_time
from hpcrun.resolve.request import Request
from hpcrun.site.target import TimeLimits


def time_limit(request: Request, nodes: int) -> timedelta | None:
    """How long the job may run; None: nobody limits it."""
    limits = request.target.time
    most = longest(limits, nodes)
    text, source = next(
        (text, source)
        for text, source in (
            (request.config.resources.time, "resources.time"),
            (_duration(request, most), "max_run_duration_seconds"),
            (limits.default, request.of_target),
            ("", ""),
        )
        if text is not None
    )
    if not source:
        if limits.required:
            message, hint = f"{request.site.id} wants a time limit", "set resources.time"
            request.refuse(message, hint, "resources.time", "max_run_duration_seconds")
        return None
    time = parse_time(text)
    request.note("time limit", format_time(time), source)
    _check_time(request, time, most, source)
    return time


def longest(limits: TimeLimits, nodes: int) -> str | None:
    """The longest time limit of a job of so many nodes."""
    fits = (
        rule.max
        for rule in limits.rules
        if rule.nodes_min <= nodes and (rule.nodes_max is None or nodes <= rule.nodes_max)
    )
    given = [next(fits, limits.max)]
    if limits.node_minutes is not None:
        given.append(f"{max(limits.node_minutes // nodes, 1)}m")
    return min(filter(None, given), key=parse_time, default=None)


def _duration(request: Request, limit: str | None) -> str | None:
    """Of all attempts together; one of several takes what the target gives at most."""
    seconds = request.config.max_run_duration_seconds
    if seconds is None:
        return None
    if limit is not None and request.config.requeue.at_time_limit:
        seconds = min(seconds, int(parse_time(limit).total_seconds()))
    return f"{seconds}s"


def _check_time(request: Request, time: timedelta, most: str | None, source: str) -> None:
    limits, nodes_too = request.target.time, ""
    if limits.rules or limits.node_minutes is not None:
        nodes_too = nodes_key(request.config.distributed_job_config)
    if most is not None and time > parse_time(most):
        request.refuse(
            f"a time limit of {format_time(time)} asked of {request.of_target}, which "
            f"gives at most {format_time(parse_time(most))}"
            + (" for so many nodes" if nodes_too else ""),
            f"{request.for_tests}above the limit a job waits for ever instead of failing",
            source,
            nodes_too,
        )
    if limits.min is not None and time < parse_time(limits.min):
        request.refuse(
            f"a time limit of {format_time(time)} asked of {request.of_target}, which "
            f"wants at least {format_time(parse_time(limits.min))}",
            "",
            source,
        )
