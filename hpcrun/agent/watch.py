"""What is done while an attempt waits. Standard library only (Python 3.8+).

Signals are heeded, limits kept, and the command is told to stop, ended or killed.
"""

from __future__ import annotations

import time
from signal import SIGCHLD, SIGKILL, SIGTERM, Signals
from typing import Callable, Optional

from hpcrun.agent import ranks, signals
from hpcrun.agent.helpers import Helpers
from hpcrun.agent.limits import MAX_DURATION, TIME_LIMIT, Limits, taken
from hpcrun.agent.own_keeper import OwnKeeper
from hpcrun.agent.process import Process
from hpcrun.agent.setting import Setting
from hpcrun.agent.witness import Witness

ASKING = 0.05
"""Seconds between two questions where no signal tells the answer."""

LEFT_OVER = 1.0
"""Seconds that processes may outlive a command that ended by itself."""

LAST_TRY = 10.0
"""Seconds in which the last facts must be written, and a keeper or helper be gone."""


class Watch:
    """Waits, whatever comes meanwhile.

    by_srun: whether the command is srun. command: once it was started. stop_told: why its ranks
    were told to stop; empty: they were not. told_to_stop: whether a signal asked for the end.
    stopped_by: which one, if the command had not ended by then. over: the limit for which the
    command was ended, or is not begun any more; empty: none.
    """

    def __init__(self, setting: Setting, witness: Witness, helpers: Helpers, by_srun: bool) -> None:
        self.setting = setting
        self.witness = witness
        self.helpers = helpers
        self.keeper = OwnKeeper(witness.problem)
        self.limits = Limits(setting)
        self.command: Optional[Process] = None
        self.stop_told = ""
        self.told_to_stop = False
        self.stopped_by: Optional[int] = None
        self.over = ""
        self._by_srun = by_srun
        self._beats = 0
        self._next_beat = time.monotonic() + setting.heartbeat
        self._kill: Optional[float] = None
        self._srun_waits = False

    @property
    def must_end(self) -> bool:
        """Whether nothing more should begin."""
        return self.stopped_by is not None or bool(self.over)

    @property
    def why_over(self) -> str:
        """What there is to say of the limit that is over."""
        limit = self.setting.max_duration if self.over == MAX_DURATION else None
        return "" if limit is None else taken(limit)

    def begin_anew(self) -> None:
        """The attempt's time counts from now."""
        self.setting = self.setting._replace(begun=time.monotonic())
        self.limits = Limits(self.setting)

    def until(
        self, done: Callable[[], bool], seconds: Optional[float] = None, asking: float = 3600.0
    ) -> bool:
        """Waits, heeding all that comes; tells whether it is done. asking: s between looks."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not done():
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            self._do_what_is_due(now)
            times = [self._next_beat, now + asking, *self.limits.times(), deadline, self._kill]
            self.heed(signals.wait(min(t for t in times if t is not None) - time.monotonic()))
        return True

    def _do_what_is_due(self, now: float) -> None:
        if now >= self._next_beat:
            self._beats += 1
            self._next_beat = now + self.setting.heartbeat
            self.witness.tell("heartbeat", {"count": self._beats})
        due = self.limits.stop_due(now)
        if due is not None:
            self.request_stop(due)
        over = self.limits.end_due(now)
        if over is not None and not self.over:
            self.over = over
            self._end_command()
        if self._kill is not None and now >= self._kill:
            self._kill_all(now)

    def _kill_all(self, now: float) -> None:
        if self._srun_waits and self.command is not None:
            self._srun_waits = False
            self._kill = now + self.setting.kill_wait
            self.command.send(SIGTERM)
        else:
            self._kill = now + ASKING  # what was started meanwhile
            self._signal_all(SIGKILL)

    def heed_what_came(self) -> None:
        """Does what all signals ask for that have come so far: the stop may not be the first."""
        number = signals.wait(0)
        while number is not None:
            self.heed(number)
            number = signals.wait(0)

    def heed(self, number: Optional[int]) -> None:
        """Does what a signal asks for; None: there was none."""
        if number is None:
            return
        if number == SIGCHLD:
            self._mind_children()
            return
        self.told_to_stop = self.told_to_stop or number in signals.STOPPING
        running = self.command is None or not self.command.has_ended()
        if number in signals.STOPPING and running and self.stopped_by is None:
            self.stopped_by = number
            self.keeper.send("interrupted")
        self.witness.tell("signal", {"signal": int(number), "name": Signals(number).name})
        if number == signals.WARNING:
            self.request_stop(TIME_LIMIT)
        elif number in signals.STOPPING and running:
            self._stop_command(number)
            self.request_stop("interrupted")

    def request_stop(self, why: str) -> None:
        """Tells the ranks of all nodes, once, that they should stop by themselves."""
        if why == TIME_LIMIT:
            self.limits.warn(time.monotonic())
        if not self.stop_told:
            self.stop_told = why
            self.keeper.send("stop")
            self.helpers.stop()
            self.witness.tell("stop_requested", {"why": why})

    def _stop_command(self, number: int) -> None:
        """Passes a signal on to the command, which passes it to its ranks.

        srun would kill its ranks at once (22.05 to 25.11: "forcing job termination"), which have
        had the signal from Slurm itself. Where Slurm runs the job, the KILL is left to it too: it
        knows the partition's grace time.
        """
        if self.command is None:
            return
        if not self._by_srun:
            self.command.send(number)
        if self._kill is None and not self.setting.scheduled:
            self._kill = time.monotonic() + self.setting.kill_wait

    def _end_command(self) -> None:
        """Ends it for a limit that the agent keeps: Slurm has told its ranks nothing.

        Under srun the keepers tell them; by a TERM of its own it kills them, on all nodes.
        """
        if self.command is None:
            return
        self._kill = time.monotonic() + self.setting.kill_wait
        if self._by_srun and self.setting.spool is not None:
            self._srun_waits = True
            self.keeper.send("term")
            self.helpers.term()
        else:
            self.command.send(SIGTERM)

    def clear_left_over(self) -> None:
        """Ends what outlives the command, as Slurm does when a job has ended."""
        if self.stopped_by is not None or self.over:
            self._signal_all(SIGTERM)
            # Not even a KILL ends what waits for a disk that hangs.
            limit = None if self.setting.scheduled else self.setting.kill_wait + LAST_TRY
            self.until(self._nothing_is_left, limit, ASKING)
        elif not self.setting.scheduled and not self.until(
            self._nothing_is_left, LEFT_OVER, ASKING
        ):
            self._kill = time.monotonic()
            self.until(self._nothing_is_left, LEFT_OVER, ASKING)
        self._kill = None

    def _nothing_is_left(self) -> bool:
        return not self._signal_all(0)

    def _signal_all(self, number: int) -> bool:
        group = self.command.pid if self.command is not None else None
        own = self.helpers.groups() | self.keeper.groups()
        return ranks.signal_all(self.setting, group, number, own)

    def _mind_children(self) -> None:
        failed = self.helpers.failed()
        if failed is not None:
            self.witness.problem(f"the helpers on other nodes ended with status {failed}")
        self.keeper.mind(self.setting)
