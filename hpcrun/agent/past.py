"""What a run's attempts did so far: how far it has come, how long they ran. (Python 3.8+)

An agent writes down how far the run is when its attempt begins, so that a later one can tell
which attempts brought it further, without comparing clocks.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional

from hpcrun.agent import checkpoints
from hpcrun.agent.checkpoints import Checkpoint
from hpcrun.agent.partial import partial_names
from hpcrun.agent.setting import Setting
from hpcrun.layout import Attempt, JournalKind, journal_kind
from hpcrun.record import Fact, decode_page

MOST = 64 << 20
"""Bytes of a file of another user's record that are read at most."""

TAIL = 1 << 18
"""Bytes at the end of a metric journal in which its greatest step is looked for."""


class Mark(NamedTuple):
    """How far a run is. checkpoint: the identity of the newest complete one."""

    step: Optional[int] = None
    checkpoint: Optional[str] = None

    def is_beyond(self, before: "Mark") -> bool:
        """Whether the run has come further: a greater step, or another newest checkpoint."""
        more_steps = self.step is not None and (before.step is None or self.step > before.step)
        other = self.checkpoint is not None and self.checkpoint != before.checkpoint
        return more_steps or other


class Past(NamedTuple):
    """What is known of a run. begins: how far it was when each attempt began; now: how far it is.

    newest: its newest complete checkpoint.
    """

    begins: Mapping[Attempt, Mark]
    now: Mark
    newest: Optional[Checkpoint]


def look(setting: Setting) -> Past:
    """What is known of the run by now. OSError."""
    told = facts(setting.paths.record, "")
    partial = {os.path.join(setting.paths.files, name) for name in partial_names(told)}
    newest = checkpoints.newest(setting.paths.outputs, setting.checkpoints, partial)
    step = max(_steps(setting.paths.record), default=None)
    now = Mark(step, newest.identity if newest is not None else None)
    return Past(_begins(told), now, newest)


def _steps(record: str) -> Iterator[int]:
    """The steps at the ends of the journals of rank 0, and of what was found in metric files."""
    for name in os.listdir(record):
        kind = journal_kind(name)
        holds_metrics = kind is not None and kind[1] is JournalKind.METRICS
        if holds_metrics and name.startswith(("rank-0-", "node-")):
            for fact in _last_facts(os.path.join(record, name)):
                step = fact.data.get("s") if fact.kind == "metric" else None
                if step is not None:
                    yield step


def _last_facts(path: str) -> List[Fact]:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
        return decode_page(file.read()).facts


def facts(record: str, writers: str) -> List[Fact]:
    """What writers whose name begins so have told, metrics apart. OSError."""
    found: List[Fact] = []
    for name in sorted(os.listdir(record)):
        kind = journal_kind(name)
        if kind is not None and kind[1] is JournalKind.FACTS and kind[0].startswith(writers):
            found += decode_page(plain(os.path.join(record, name)), kind[0]).facts
    return found


def plain(path: str) -> bytes:
    """What a file of a record holds, which may be another user's: no link is followed, no pipe
    waited for, and of another's file that is too large only the beginning is read. OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a plain file", path)
        return file.read(-1 if found.st_uid == os.geteuid() else MOST)


def _begins(told: Iterable[Fact]) -> Dict[Attempt, Mark]:
    """How far the run was when each attempt began, as far as agents have told."""
    marks = {Attempt(1, 0): Mark()}
    for fact in told:
        if fact.kind == "mark":
            marks[fact.attempt] = Mark(fact.data.get("step"), fact.data.get("checkpoint"))
    return marks


def as_data(found: Mark) -> Mapping[str, Any]:
    """A mark as the data of a fact."""
    return {key: value for key, value in found._asdict().items() if value is not None}


def spent(told: Iterable[Fact], current: Attempt) -> float:
    """Seconds that the attempts before took, each by its own agent's clock."""
    times: Dict[Attempt, List[float]] = {}
    for fact in told:
        if fact.attempt < current and fact.writer.startswith("agent-"):
            begun = fact.time - fact.data.get("age", 0) if fact.kind == "started" else fact.time
            times.setdefault(fact.attempt, []).append(begun)
    return sum(max(seen) - min(seen) for seen in times.values())


def has_heeded(record: str, attempt: Attempt) -> bool:
    """Whether should_stop() has told the script of an attempt to stop. OSError."""
    return any(fact.kind == "stopping" for fact in facts(record, f"rank-0-{attempt}-"))


def rank_statuses(record: str, attempt: Attempt) -> List[int]:
    """The shell statuses with which ranks of an attempt ended, as far as they told, one after
    another by the clocks of their hosts. OSError."""
    told = facts(record, "node-")
    ends = [f.data for f in told if f.kind == "rank_ended" and f.attempt == attempt]
    return [end["status"] for end in sorted(ends, key=lambda end: float(end["time"]))]
