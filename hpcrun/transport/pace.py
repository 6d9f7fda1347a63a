"""A minimum gap between two logins at one host, or two submissions to one site, of all of a user's
processes on this machine."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

LONGEST = 60.0
"""Seconds that a clock which was set back could make somebody wait, at most."""


def keep_gap(
    folder: Path, host: str, gap: float, sleep: Callable[[float], object] = time.sleep
) -> float:
    """Waits until a login at a host, or a submission to a site, may be tried, and notes it; gives
    the seconds waited.

    folder: where the times are kept; where it cannot be written, nobody waits.
    """
    from filelock import FileLock, Timeout

    name = re.sub(r"[^A-Za-z0-9.@-]", "_", host)
    file = folder / f"{name}.login"
    waited = 0.0
    with contextlib.suppress(OSError, Timeout):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(f"{file}.lock", timeout=LONGEST, mode=0o600, fallback_to_soft=False):
            waited = _left(file, min(gap, LONGEST))
            if waited > 0:
                sleep(waited)
            file.touch(mode=0o600)
            os.utime(file)
    return waited


def _left(file: Path, gap: float) -> float:
    try:
        since = time.time() - file.stat().st_mtime
    except OSError:
        return 0.0
    return max(0.0, gap - since) if since >= 0 else gap
