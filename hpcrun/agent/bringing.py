"""The keeper's care for a working folder on a node or on scratch. Standard library only (3.8+).

Nothing here may cost the spool: whatever fails is told as a problem.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Sequence

from hpcrun.agent.setting import Setting
from hpcrun.agent.spool import is_own
from hpcrun.errors import StoreError

if TYPE_CHECKING:
    from hpcrun.agent.collecting import Collector

Tell = Callable[[str, Dict[str, Any]], None]

LAST = 60.0
"""Seconds of one look at what was left behind."""


def bring(work: str, files: str, first: bool, tell: Callable[[str], None]) -> int:
    """Brings what was left in a working folder on this node, and removes it; gives the bytes.

    first: whether its names may replace what stands in the history. tell: takes a problem.
    OSError; StoreError where something could not be brought: that stays.
    """
    from hpcrun.agent.collecting import Collector
    from hpcrun.agent.place import Place
    from hpcrun.agent.working import remove

    if not is_own(work):
        return 0
    place = Place(files, os.uname().nodename, first, {}, late=True)
    collector = Collector(work, files, place, tell)
    while not collector.finish(LAST)[0]:
        if collector.error is not None:
            raise collector.error
    if collector.stays:
        raise StoreError(f"{len(collector.stays)} files stay in {work}", "look what they are")
    remove(work)
    return collector.bytes


class Bringing:
    """Brings the files of this node while the run goes on, and the rest at its end.

    old: see `Place`. tell: takes the kind and the data of a fact. progress: how much the last look
    has done. Without a working folder of its own it has nothing to do.
    """

    def __init__(self, setting: Setting, old: Mapping[str, int], tell: Tell) -> None:
        self.progress = 0
        self._setting = setting
        self._old = old
        self._tell = tell
        self._works = setting.work is not None
        self._collector: Optional[Collector] = None
        self._told_error = self._told_waiting = False

    def look(self, interrupted: bool) -> None:
        """Brings what is due. interrupted: there is not much time any more."""
        if interrupted and not self._told_waiting:
            self._told_waiting = True
            self.tell_waiting()
        self._guard(lambda collector: collector.look(1.0) if interrupted else collector.look())

    def finish(self, seconds: float) -> bool:
        """All has ended: brings the rest, as far as the time reaches; whether all is there."""
        done = True

        def act(collector: Collector) -> int:
            nonlocal done
            done, count = collector.finish(seconds)
            return count

        self._guard(act)
        return done

    def tell_waiting(self) -> None:
        """Tells what the history does not have yet: there may be no time to bring it."""

        def act(collector: Collector) -> int:
            files, size = collector.waiting()
            if files:
                self._tell_uncollected(files, size)
            return 0

        self._guard(act)

    def close(self) -> bool:
        """All was brought that can be: removes the folder; False where something stays in it."""
        work, collector = self._setting.work, self._collector
        if work is not None and not self._works:
            self._tell_uncollected(0, 0)
            return False
        if work is None or collector is None:
            return True
        if collector.stays:
            sizes = [state.size for state in collector.stays.values()]
            self._tell_uncollected(len(sizes), sum(sizes))
            return False
        from hpcrun.agent.working import remove

        try:
            remove(work)
        except OSError as error:
            self._problem(f"cannot remove the working folder {work}: {error.strerror}")
        return True

    def _guard(self, act: Callable[[Collector], int]) -> None:
        self.progress = 0
        if not self._works:
            return
        try:
            if self._collector is None:
                if not is_own(self._setting.work or ""):
                    return  # it could not be made
                self._collector = self._new_collector()
            count, error = act(self._collector), self._collector.error
            # A copy that got stuck is removed: its bytes are no progress.
            self.progress = count if error is None else 0
            self._mind(error)
        except Exception as error:  # noqa: BLE001 - nothing here may cost the spool
            self._works = False
            self._problem(f"the working folder is not collected any more: {error!r}")

    def _new_collector(self) -> Collector:
        from hpcrun.agent.collecting import Collector
        from hpcrun.agent.partial import Partial
        from hpcrun.agent.place import Place

        told, work = self._setting, self._setting.work
        assert work is not None
        place = Place(told.paths.files, told.host, told.is_first, self._old)
        partial = Partial(work, told.checkpoints, self._tell_partial)
        return Collector(work, told.paths.files, place, self._problem, partial)

    def _mind(self, error: Optional[OSError]) -> None:
        if error is not None and not self._told_error:
            self._told_error = True
            self._problem(f"files wait on {self._setting.host}: {error}")

    def _tell_uncollected(self, files: int, size: int) -> None:
        told = self._setting
        data = {"host": told.host, "files": files, "bytes": size, "where": told.work}
        self._tell("uncollected", data)

    def _tell_partial(self, names: Sequence[str]) -> None:
        self._tell("partial", {"host": self._setting.host, "names": list(names)})

    def _problem(self, message: str) -> None:
        self._tell("problem", {"message": message})
