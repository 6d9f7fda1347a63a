"""Which runs must have ended before the command starts."""

from __future__ import annotations

from collections.abc import Sequence

from hpcrun.plan import Awaited, Awaiting
from hpcrun.resolve.request import Request


def awaiting(request: Request, awaited: Sequence[Awaited]) -> Awaiting | None:
    """Which runs must have ended, and how; None: none."""
    after = request.config.after
    if after is None or not awaited:
        return None
    for number, run in enumerate(awaited):
        request.note("after", run.run_id, f"after.runs[{number}]")
    told = f"{after.condition}, {'one of them' if after.any_of else 'all of them'}"
    request.note("after which end", told, "after.condition")
    return Awaiting(tuple(awaited), after.condition, after.any_of)
