"""trainer_state.json of Hugging Face's Trainer: a whole history, written anew at each checkpoint.

Pure; standard library only (Python 3.8+).
"""

from __future__ import annotations

import json
from typing import Dict, List

from hpcrun.agent.follow.points import Point, Reading, count, flattened, points_of


def read(data: bytes, step: str, final: bool) -> Reading:
    """The points of `log_history`. data: the whole file; one that is half written waits."""
    del final
    try:
        history = json.loads(data.decode("utf-8"))["log_history"]
        entries = list(history)
    except (ValueError, KeyError, TypeError, RecursionError):
        return Reading([], 0, {}, problem="it holds no whole `log_history`")
    points: List[Point] = []
    skipped: Dict[str, int] = {}
    for entry in entries:
        if isinstance(entry, dict):
            points += points_of(flattened(entry, skipped), step, len(data))
        else:
            count(skipped, "entry that is no object")
    return Reading(points, len(data), skipped)
