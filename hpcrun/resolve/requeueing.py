"""When the run begins its next attempt by itself."""

from __future__ import annotations

from datetime import timedelta

from hpcrun.config import Requeue
from hpcrun.plan import Requeueing
from hpcrun.resolve.request import Request
from hpcrun.site.scheduler import RequeueRules


def requeueing(request: Request) -> Requeueing:
    """When the agent has the run requeued."""
    asked, seconds = request.config.requeue, request.config.max_run_duration_seconds
    if asked.exit_code:
        _note(request, "requeue exit code", asked.exit_code, "exit_code")
    if asked.at_time_limit:
        request.note("requeue at time limit", "yes", "requeue.at_time_limit")
    if asked.exit_code or asked.at_time_limit:
        _note(request, "attempts at most", asked.max_attempts, "max_attempts")
    if seconds is not None:
        request.note("all attempts at most", f"{seconds} s", "max_run_duration_seconds")
    return Requeueing(
        exit_code=asked.exit_code,
        at_time_limit=asked.at_time_limit,
        max_attempts=asked.max_attempts,
        max_duration=timedelta(seconds=seconds) if seconds is not None else None,
    )


def may_requeue(request: Request) -> bool | None:
    """Whether Slurm may requeue the job; None: as the cluster has it."""
    asked, rules = request.config.requeue, request.site.scheduler.requeue
    if request.local:
        return None
    if request.target.preemptible and rules != RequeueRules():
        request.note("preemption", _contract(rules), request.of_site)
    if asked.allowed is not None:
        request.note("requeue by Slurm", "yes" if asked.allowed else "no", "requeue.allowed")
        return asked.allowed
    return True if asked.at_time_limit else None


def _contract(rules: RequeueRules) -> str:
    """What a site says of jobs that others push off, in words."""
    told = []
    if rules.guaranteed_seconds is not None:
        told.append(f"not in the first {rules.guaranteed_seconds} s")
    if rules.notice_seconds is not None:
        told.append(f"{rules.signal or 'a signal'} {rules.notice_seconds} s before the end")
    if rules.default is not None:
        told.append("requeued unless told otherwise" if rules.default else "requeued only if told")
    return "; ".join(told) or f"by {rules.signal}"


def _note(request: Request, name: str, value: object, field: str) -> None:
    key = f"requeue.{field}"
    told = key in request.origins or value != getattr(Requeue(), field)
    request.note(name, value, key if told else "default")
