"""The metrics that the keeper itself writes: of files it follows, and of its node. (Python 3.8+)

They go straight to the record, in a journal of the keeper's own. Nothing here may cost the spool:
whatever fails is told as a problem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional

from hpcrun.agent.setting import Setting
from hpcrun.journal import Journal

if TYPE_CHECKING:
    from hpcrun.agent.follow.follower import Follower
    from hpcrun.agent.system import Sampler

FIRST_LOOK, LAST_LOOK = 2.0, 30.0
"""Seconds between two looks at the metric files: the longer, the longer they are quiet."""


class Measuring:
    """Follows files and samples the node. tell: takes a problem, a sentence.

    follows: whether the metric files are this keeper's to follow: one node's are enough.
    """

    def __init__(
        self, setting: Setting, journal: Journal, follows: bool, tell: Callable[[str], None]
    ) -> None:
        self._setting = setting
        self._journal = journal
        self._tell = tell
        self._follows = follows and bool(setting.metric_files)
        self._follower: Optional[Follower] = None
        self._sampler: Optional[Sampler] = None
        self._samples = setting.sample_seconds > 0
        self._pause = FIRST_LOOK
        self._next_look = 0.0
        self._next_sample = 0.0

    def look(self, now: float) -> None:
        """Does what is due. now: s of the monotonic clock."""
        if self._follows and now >= self._next_look:
            found = self._followed(False)
            self._pause = FIRST_LOOK if found else min(self._pause * 1.5, LAST_LOOK)
            self._next_look = now + (0.0 if found else self._pause)
        if self._samples and now >= self._next_sample:
            self._next_sample = now + self._setting.sample_seconds
            self._sample()

    def sync(self) -> None:
        """Waits until the file system has the points that were written."""
        if self._follower is not None:
            self._follower.sync()

    def finish(self) -> bool:
        """All has ended: brings the rest. Tells whether nothing is left."""
        if not self._follows:
            return True
        if self._followed(True):
            return False
        self.sync()
        return not self._follows or self._error() is None

    def tell_rest(self) -> None:
        """There is no time to bring more."""
        if self._follows:
            why = self._error() or "there was no time left"
            self._tell(f"the metric files were not read to their ends: {why}")

    def _error(self) -> Optional[OSError]:
        return self._follower.error if self._follower is not None else None

    def _followed(self, final: bool) -> int:
        """The bytes that were read."""
        try:
            if self._follower is None:
                self._follower = self._new_follower()
            return self._follower.look(final)
        except Exception as error:  # noqa: BLE001 - nothing here may cost the spool
            self._follows = False
            self._tell(f"the metric files are not followed any more: {error!r}")
            return 0

    def _new_follower(self) -> Follower:
        from hpcrun.agent.follow.follower import Follower
        from hpcrun.agent.follow.patterns import Pattern

        paths = self._setting.paths
        patterns = [Pattern.of(told) for told in self._setting.metric_files]
        return Follower(paths.files, paths.record, patterns, self._journal, self._tell)

    def _sample(self) -> None:
        try:
            if self._sampler is None:
                from hpcrun.agent.system import Sampler

                self._sampler = Sampler()
                return
            data = {"host": self._setting.host, **self._sampler.sample()}
            self._journal.append("system", data)
        except OSError:
            pass  # the record cannot be written, which others tell; the next sample may do better
        except Exception as error:  # noqa: BLE001 - nothing here may cost the spool
            self._samples = False
            self._tell(f"{self._setting.host} is not measured any more: {error!r}")
