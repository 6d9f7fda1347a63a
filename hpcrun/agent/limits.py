"""When the ranks are told to stop, and when the agent ends the command. (Python 3.8+)

All times are of the monotonic clock. Slurm keeps a job's time limit itself; the agent keeps it on
target local, and everywhere what all attempts together may take.
"""

from __future__ import annotations

from typing import Dict, List, Optional

from hpcrun.agent.setting import Setting

TIME_LIMIT = "time_limit"
"""The attempt's own limit."""

LAST_CALL = "last_call"
"""So long before the limit that there is time to requeue the job."""

MAX_DURATION = "max_duration"
"""What all attempts together may take."""

RESERVE = 60.0
"""Seconds that are kept of the lead for what comes after the command, at most half of it."""


class Limits:
    """The limits of one attempt."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._stops: Dict[str, float] = {}
        self._ends: Dict[str, float] = {}
        if setting.stop_after is not None:
            self._stops[TIME_LIMIT] = setting.begun + setting.stop_after

    def allot(self, left: float) -> None:
        """This attempt may take so many seconds of what all together may."""
        lead = self._setting.stop_lead
        self._stops[MAX_DURATION] = self._setting.begun + max(left - lead, left / 2)
        self._ends[MAX_DURATION] = self._setting.begun + left

    def start(self, now: float) -> None:
        """The command begins."""
        if self._setting.time_limit is not None:
            self._ends[TIME_LIMIT] = now + self._setting.time_limit

    def warn(self, now: float) -> None:
        """The time limit is a lead away."""
        told = self._setting
        if told.scheduled and told.requeue.at_time_limit and told.stop_lead:
            self._ends[LAST_CALL] = now + told.stop_lead - min(RESERVE, told.stop_lead / 2)

    def clear(self) -> None:
        """The command has ended, or waits for other runs' ends."""
        self._stops.clear()
        self._ends.clear()

    def stop_due(self, now: float) -> Optional[str]:
        """Why the ranks should be told to stop by now; each reason once."""
        return _due(self._stops, now)

    def end_due(self, now: float) -> Optional[str]:
        """Why the command should be ended by now; each reason once."""
        return _due(self._ends, now)

    def times(self) -> List[float]:
        """When something is due."""
        return [*self._stops.values(), *self._ends.values()]


def taken(seconds: float) -> str:
    """What is said where attempts have taken all that they may together."""
    return f"the run has taken its max_run_duration_seconds ({seconds:g})"


def _due(times: Dict[str, float], now: float) -> Optional[str]:
    due = next((reason for reason, when in times.items() if now >= when), None)
    if due is not None:
        del times[due]
    return due
