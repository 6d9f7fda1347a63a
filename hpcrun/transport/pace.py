"""A minimum gap between two logins at one host, or two submissions to one site, of all of a user's
processes on this machine."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

LONGEST = 600.0
"""Seconds by which somebody's turn lies ahead at most: beyond it, a clock was set back."""

_STUCK = 10.0
"""Seconds for which a turn is waited for that is taken in no time."""


def keep_gap(
    folder: Path, host: str, gap: float, sleep: Callable[[float], object] = time.sleep
) -> float:
    """Waits until a login at a host, or a submission to a site, may be tried, and notes it; gives
    the seconds waited.

    Who comes takes the next turn behind those who wait already. folder: where it is kept when the
    last turn is; where it cannot be written, nobody waits.
    """
    from filelock import FileLock, Timeout

    name = re.sub(r"[^A-Za-z0-9.@-]", "_", host)
    file = folder / f"{name}.login"
    waits = 0.0
    with contextlib.suppress(OSError, Timeout):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=_STUCK, mode=0o600, fallback_to_soft=False):
            now = time.time()
            waits = _until_turn(file, now, gap)
            file.touch(mode=0o600)
            os.utime(file, (now + waits, now + waits))
    if waits > 0:
        sleep(waits)
    return waits


def _until_turn(file: Path, now: float, gap: float) -> float:
    try:
        last = file.stat().st_mtime
    except OSError:
        return 0.0
    return max(0.0, last + gap - now) if last - now <= LONGEST else 0.0
