"""The environment that was staged on this node's own disk. Standard library only (Python 3.8+)."""

from __future__ import annotations

import os
import time
from typing import Callable

ASKING = 0.1
"""Seconds between two looks."""


def remove(place: str, seconds: float, is_over: Callable[[], bool] = lambda: False) -> bool:
    """Removes it once none of our processes runs from it; whether it is gone.

    seconds: how long they are waited for. is_over: whether there is no more time.
    """
    if not is_own(place):
        return True
    deadline = time.monotonic() + seconds
    while is_used(place):
        if time.monotonic() >= deadline or is_over():
            return False
        time.sleep(ASKING)
    import shutil  # 3 ms, for those jobs alone that have such an environment

    shutil.rmtree(place, ignore_errors=True)
    return not os.path.exists(place)


def is_own(place: str) -> bool:
    """Whether there is such a folder of ours."""
    try:
        return os.lstat(place).st_uid == os.geteuid() and not os.path.islink(place)
    except OSError:
        return False


def is_used(place: str) -> bool:
    """Whether one of our processes was started from it, or has a library of it open."""
    inside = f"{place}/".encode()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read(len(inside)) == inside:
                    return True
            with open(f"/proc/{pid}/maps", "rb") as file:
                if inside in file.read():
                    return True
        except OSError:
            continue  # another user's, or gone
    return False
