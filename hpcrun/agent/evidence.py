"""What logs tell of an end. Standard library only (Python 3.8+)."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Optional

from hpcrun.agent.setting import Setting
from hpcrun.layout import journal_kind
from hpcrun.record import RankEnd, decode_page
from hpcrun.verdict import RAISED, first_to_fall

TAIL = 1 << 16
"""Bytes of a log that are looked at."""

LINES, LINE, BYTES = 20, 1000, 4096
"""How much of a log is kept, at most: lines, characters of a line, bytes in all."""

AFTER = 5
"""Lines behind a traceback that are kept: what its exception says further, and last words."""

TRACEBACK = "Traceback (most recent call last):"


_MEMORY_KILL = (
    r"slurmstepd(?:-(?P<node>[^:\s]+))?: error: "
    r"Detected .*oom[-_]kill event.* StepId=(?P<step>\S+).*"
)


_OF_TORCH = re.compile(r"^\[rank\d+\]: ")
"""Stands before each line of an exception where torch.distributed is initialized (2.13)."""

_CANCELED = re.compile(r"\*\*\* STEP \S+ ON \S+ CANCELLED AT ")


def size(path: str) -> int:
    """The bytes of a file; 0 if there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def memory_kills(setting: Setting, since: int) -> List[Dict[str, Any]]:
    """The data of an `out_of_memory` fact for each line in which Slurm tells of such a kill.

    20.11 to 22.05 write `Detected 1 oom-kill event(s) in StepId=7.0`, later ones `oom_kill event`;
    srun passes a remote step's words on as those of `slurmstepd-<node>`.
    since: the size of the batch log when this attempt began.
    """
    kills = []
    for line in _tail(setting.batch_log, since):
        told = re.search(_MEMORY_KILL, line)
        if told is not None:
            step = told["step"].rstrip(".").partition(".")[2] or told["step"]
            kills.append({"evidence": told[0], "step": step, "host": told["node"] or setting.host})
    return kills


def a_step_was_canceled(setting: Setting, since: int) -> bool:
    """Whether Slurm tells that it has sent TERM to a step. since: as for `memory_kills`."""
    return any(_CANCELED.search(line) for line in _tail(setting.batch_log, since))


def last_words(setting: Setting, since: int) -> List[str]:
    """The last lines of the rank that fell first; of the batch log, if no rank's are known.

    since: as for `memory_kills`.
    """
    fall = _first_fall(setting)
    lines = _rank_lines(setting, fall) if fall is not None else []
    lines = lines or _tail(setting.batch_log, since)
    # What ended otherwise has outlived the exceptions that its log tells of.
    raised = fall is None or fall.status == RAISED
    return _kept(_traceback(lines) if raised else lines)


def last_lines(path: str) -> List[str]:
    """The last lines of a log, as far as they are kept; none if it cannot be read."""
    return _kept(_tail(path))


def no_rank_began(setting: Setting) -> bool:
    """Whether no shim has begun a rank's log, or told a rank's end, on any node."""
    try:
        logs = os.listdir(setting.paths.attempt_logs(setting.attempt))
    except FileNotFoundError:
        logs = []
    return not logs and _first_fall(setting) is None


def _first_fall(setting: Setting) -> Optional[RankEnd]:
    ends: List[RankEnd] = []
    for name in os.listdir(setting.paths.record):
        kind = journal_kind(name)
        if kind is None or not (
            name.startswith("node-") and kind[0].endswith(f"-{setting.attempt}")
        ):
            continue
        with open(os.path.join(setting.paths.record, name), "rb") as file:
            told = [f.data for f in decode_page(file.read()).facts if f.kind == "rank_ended"]
        ends += [RankEnd(t["rank"], t["status"], t["host"], t["time"]) for t in told]
    return first_to_fall(ends)


def _rank_lines(setting: Setting, fall: RankEnd) -> List[str]:
    """The lines of a rank, from its own log or from that of its node."""
    lines = _tail(setting.paths.rank_log(setting.attempt, fall.rank))
    if not lines:
        folder = setting.paths.attempt_logs(setting.attempt)
        mark = f"[{fall.rank}] "
        node = _tail(os.path.join(folder, f"node-{fall.host}.log"))
        lines = [line[len(mark) :] for line in node if line.startswith(mark)]
    return [_OF_TORCH.sub("", line) for line in lines]


def _tail(path: str, since: int = 0) -> List[str]:
    """The last lines of a log, after so many bytes."""
    try:
        with open(path, "rb") as file:
            file.seek(max(since, os.fstat(file.fileno()).st_size - TAIL))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _traceback(lines: List[str]) -> List[str]:
    """The last traceback, and the last lines behind it; all lines if there is none."""
    begins = [n for n, line in enumerate(lines) if line.startswith(TRACEBACK)]
    if not begins:
        return lines
    rest = lines[begins[-1] :]
    end = next(
        (n for n, line in enumerate(rest[1:], 1) if line and line[0] not in " \t"), len(rest)
    )
    trace, behind = rest[: end + 1], rest[end + 1 :]
    return [*trace[AFTER - LINES :], *behind[-AFTER:]]


def _kept(lines: List[str]) -> List[str]:
    """The last of them that are not too much."""
    kept: List[str] = []
    room = BYTES
    for line in reversed([line[:LINE] for line in lines[-LINES:]]):
        room -= len(line.encode("utf-8")) + 1
        if room < 0:
            break
        kept.insert(0, line)
    return kept
