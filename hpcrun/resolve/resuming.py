"""Which checkpoint an attempt goes on from."""

from __future__ import annotations

from hpcrun.config import AUTO
from hpcrun.plan import Resuming
from hpcrun.resolve.request import Request


def resuming(request: Request) -> Resuming:
    """Which checkpoint an attempt goes on from."""
    config, asked = request.config, request.config.resume_from
    request.choose("resume from", (asked, "resume_from"))
    told = "checkpoints.patterns" in request.origins
    patterns, marker = tuple(config.checkpoints.patterns), config.checkpoints.marker
    request.choose("checkpoints", (patterns, "checkpoints.patterns" if told else "default"))
    request.choose("checkpoint marker", (marker, "checkpoints.marker"))
    return Resuming(
        path=asked if asked != AUTO else None,
        argument=asked is not None,
        fits=not isinstance(config.command, str),
        patterns=patterns,
        marker=marker,
    )
