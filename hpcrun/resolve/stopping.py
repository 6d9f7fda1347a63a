"""How the run hears that its time is nearly over."""

from __future__ import annotations

from datetime import timedelta

from hpcrun.config import parse_time
from hpcrun.directives import format_time
from hpcrun.plan import Stopping
from hpcrun.resolve.request import Request

SHORTEST = timedelta(minutes=2)
"""The default lead, unless a checkpoint takes longer."""

BEYOND_CHECKPOINT = timedelta(seconds=90)
"""Slurm's signal may be late by its own rounds, and what was written is brought to the history."""

EARLY = timedelta(seconds=60)
"""How much earlier than asked Slurm may send a signal (sbatch manual)."""

LONGEST = timedelta(seconds=65535)
"""Slurm holds the lead in 16 bits."""

LEAST = timedelta(seconds=10)
"""A default lead that would be shorter is none."""


def stopping(request: Request, time: timedelta | None) -> Stopping:
    """How the run is told. time: its limit, if that is known."""
    asked = request.config.stop
    checkpoint = parse_time(asked.checkpoint_time) if asked.checkpoint_time else None
    lead, source = _default(asked.checkpoint_time, time), "default"
    if asked.checkpoint_time is not None:
        source = "stop.checkpoint_time"
    if asked.lead is not None:
        lead, source = parse_time(asked.lead), "stop.lead"
        _check(request, lead, time)
    forbidden = "--signal" in request.site.scheduler.directives.forbid
    own_clock = request.local or forbidden
    if lead is None or (own_clock and time is None):
        if not request.local:
            why = "the time limit is too short" if lead is None else "no time limit is known"
            request.note("stop", f"not told: {why}", source)
        return Stopping(None, signal=asked.signal, checkpoint=checkpoint)
    by = "by the agent" if own_clock else "by Slurm"
    request.note("stop", f"{format_time(lead)} before the time limit, {by}", source)
    request.choose("stop signal", (asked.signal, "stop.signal"))
    return Stopping(lead, own_clock, asked.signal, checkpoint)


def _default(checkpoint: str | None, time: timedelta | None) -> timedelta | None:
    """max(2m, a checkpoint and 90s), but the signal never comes in the first half of the time."""
    lead = SHORTEST
    if checkpoint is not None:
        lead = max(lead, parse_time(checkpoint) + BEYOND_CHECKPOINT)
    if time is not None:
        lead = min(lead, time / 2 - EARLY)
    return min(lead, LONGEST) if lead >= LEAST else None


def _check(request: Request, lead: timedelta, time: timedelta | None) -> None:
    if time is not None and lead >= time:
        request.refuse(
            f"a lead of {format_time(lead)} asked, and the time limit is {format_time(time)}",
            "a shorter lead, or more time",
            "stop.lead",
            "resources.time",
            "max_run_duration_seconds",
        )
    if lead > LONGEST:
        message = f"a lead of {format_time(lead)} asked, and Slurm knows at most"
        request.refuse(f"{message} {format_time(LONGEST)}", "a shorter one", "stop.lead")
