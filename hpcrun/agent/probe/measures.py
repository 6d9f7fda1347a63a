"""What one node alone can find out of a file system, in an empty folder for each measure.

Standard library only (Python 3.8+).
"""

from __future__ import annotations

import errno
import os
import time
from functools import partial
from statistics import median
from typing import Any, Callable, Dict, List, Optional, Tuple

from hpcrun.agent.probe.talk import create

COUNT = 20
"""Files whose handling is timed."""

HOLE = 16 << 20
"""Bytes that are skipped in a file with a hole."""

STAMP = 1_234_567_890_123_456_789
"""A time in nanoseconds with no zero in its end: what is lost of it is what is not kept."""

UNITS = (("ns", 1), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000))


def latencies(folder: str) -> Dict[str, float]:
    """The medians of what the first side does with small files, in seconds. OSError."""
    names = [os.path.join(folder, f"file-{number}") for number in range(COUNT)]
    acts = {"create": create, "write and fsync": _append, "rename": _rename}
    return {
        what: median(_timed(partial(act, name)) for name in names) for what, act in acts.items()
    }


def looks(folder: str) -> Dict[str, float]:
    """How long it takes, in seconds, to list that folder and to stat a file of it. OSError."""
    listed = _timed(partial(os.listdir, folder))
    names = [os.path.join(folder, name) for name in os.listdir(folder)]
    found = [_timed(partial(os.stat, name)) for name in names]
    return {"list": listed, "stat": median(found)} if found else {"list": listed}


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _append(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"x" * 4096)
        file.flush()
        os.fsync(file.fileno())


def _rename(path: str) -> None:
    os.rename(path, f"{path}.new")


def space(folder: str) -> Dict[str, Optional[int]]:
    """Bytes and inodes, all and free for this user; None where it does not count them. OSError."""
    found = os.statvfs(folder)
    inodes = found.f_files or None
    return {
        "bytes": found.f_blocks * found.f_frsize,
        "bytes_free": found.f_bavail * found.f_frsize,
        "inodes": inodes,
        "inodes_free": found.f_favail if inodes else None,
    }


def names(folder: str) -> Dict[str, Any]:
    """Whether names differ by case alone, and the longest one in bytes. OSError."""
    create(os.path.join(folder, "Name"))
    return {
        "case_matters": not os.path.exists(os.path.join(folder, "name")),
        "longest_name": _longest(folder),
    }


def _longest(folder: str) -> int:
    """Found by halving, since what pathconf says is not always so."""
    good, bad = 4, 1024
    while bad - good > 1:
        length = (good + bad) // 2
        path = os.path.join(folder, "x" * length)
        try:
            create(path)
            os.unlink(path)
            good = length
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.ENOENT):
                raise
            bad = length
    return good


def keeps_holes(folder: str) -> bool:
    """Whether what was never written takes no room. OSError."""
    path = os.path.join(folder, "hole")
    with open(path, "wb") as file:
        file.seek(HOLE)
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
    return os.stat(path).st_blocks * 512 < HOLE // 2


def file_times(folder: str) -> Dict[str, Any]:
    """To which unit a file's time is kept, and by how many seconds the clock that stamps new files
    is ahead of this node's, at least and at most. OSError."""
    path = os.path.join(folder, "stamped")
    low, high = float("-inf"), float("inf")
    for number in range(5):
        before = time.time()
        create(f"{path}-{number}")
        after, stamp = time.time(), os.stat(f"{path}-{number}").st_mtime
        low, high = max(low, stamp - after), min(high, stamp - before)
        time.sleep(0.02)
    create(path)
    os.utime(path, ns=(STAMP, STAMP))
    return {"unit": _unit(os.stat(path).st_mtime_ns), "ahead": sorted((low, high))}


def _unit(kept: int) -> str:
    return next((name for name, size in UNITS if kept // size == STAMP // size), "none")


def file_system(folder: str) -> Dict[str, str]:
    """Its kind, source and options as this node has mounted it; empty where that is not known."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            return mounted(file.read(), os.path.realpath(folder))
    except OSError:
        return {}


def mounted(table: str, path: str) -> Dict[str, str]:
    """The line of /proc/self/mountinfo that a path belongs to: the last one of the longest."""
    best: Tuple[int, List[str]] = (-1, [])
    for line in table.splitlines():
        words = line.split()
        point = words[4].encode().decode("unicode_escape") if len(words) > 4 else ""
        inside = point and (path == point or path.startswith(point.rstrip("/") + "/"))
        if inside and "-" in words and len(point) >= best[0]:
            best = (len(point), words)
    if not best[1]:
        return {}
    kind, source, *rest = best[1][best[1].index("-") + 1 :]
    options = ",".join([best[1][5], *rest])
    return {"kind": kind, "source": source, "options": options, "at": best[1][4]}
