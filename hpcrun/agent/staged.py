"""Environments that were staged on this node's own disk. Standard library only (Python 3.8+)."""

from __future__ import annotations

import os
import re
import time
from typing import Callable, Iterator, List, Optional, Set

from hpcrun.agent import signals
from hpcrun.agent.process import Process
from hpcrun.agent.setting import Setting
from hpcrun.layout import HOLD_VARIABLE

ASKING = 0.1
"""Seconds between two looks."""

PATIENCE = 2.0
"""Seconds that what outlives the ranks has left from its environment."""

YOUNG = 600.0
"""Seconds for which one of another job's stays: on nodes where it only arrives, that job may have
no process."""

_PLACE = re.compile(r"hpcrun-[^/]+-env\Z")
_OF_JOB = re.compile(rb"(?:\A|\0)SLURM_JOB_ID=([0-9]+)(?=\0|\Z)")


def keep_hold(told: Setting) -> None:
    """What the script's tasks on the nodes listen to is this process's alone.

    They remove what was staged if it ends before it has taken over, or if the job is canceled.
    """
    if told.hold is not None:
        del os.environ[HOLD_VARIABLE]
        os.set_inheritable(told.hold, False)


def take_over(told: Setting) -> None:
    """From now on this process and the keepers remove what was staged, on all nodes."""
    if told.hold is not None:
        try:
            os.write(told.hold, b"\n")
        except OSError:
            pass  # nobody listens any more
        os.close(told.hold)


def begin_removal(told: Setting) -> Optional[Process]:
    """The ranks of this node have ended: removes what was staged for them, in the background.

    None: there is none of ours. Without a spool nobody knows of the ranks.
    """
    place = told.staged
    if place is None or not told.scheduled or not is_own(place):
        return None
    seconds = told.kill_wait if told.spool is None else PATIENCE
    return _in_background(lambda: remove(place, seconds))


def begin_sweep(room: str, own: Optional[str]) -> Optional[Process]:
    """Removes in the background what killed jobs of ours have left in a folder; None: nothing.

    own: that of this job, which stays.
    """
    found = [place for place in _old(room) if place != own]
    return _in_background(lambda: _sweep(found)) if found else None


def end(removal: Optional[Process]) -> None:
    """Waits until it is gone."""
    while removal is not None and not removal.has_ended():
        time.sleep(ASKING / 5)


def remove(place: str, seconds: float) -> None:
    """Removes one once none of our processes runs from it; they are waited for so long."""
    deadline = time.monotonic() + seconds
    while is_used(place) and time.monotonic() < deadline:
        time.sleep(ASKING)
    import shutil  # 3 ms, for those jobs alone that have such an environment

    shutil.rmtree(place, ignore_errors=True)


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


def _in_background(act: Callable[[], object]) -> Process:
    """Has it done by a child in this process group, which nothing but a KILL ends."""
    pid = os.fork()
    if pid == 0:
        try:
            signals.ignore()
            nothing = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):  # nobody waits for the end of what it holds open
                os.dup2(nothing, number)
            act()
        finally:
            os._exit(0)
    return Process(pid)


def _old(room: str) -> Iterator[str]:
    """Those of ours in a folder that nothing has come to for long."""
    try:
        names = [name for name in os.listdir(room) if _PLACE.match(name)]
    except OSError:
        return
    for place in (os.path.join(room, name) for name in names):
        if is_own(place) and time.time() - _changed(place) > YOUNG:
            yield place


def _changed(place: str) -> float:
    """When something came there last."""
    times = [0.0]
    for path in (place, os.path.join(place, "packed")):
        try:
            times.append(os.lstat(path).st_mtime)
        except OSError:
            pass
    return max(times)


def _sweep(places: List[str]) -> None:
    import shutil

    jobs = _running()
    for place in places:
        try:
            with open(os.path.join(place, "job"), "rb") as file:
                job = file.read().split()[0]
        except (OSError, IndexError):
            job = b""
        if job not in jobs and not is_used(place):
            shutil.rmtree(place, ignore_errors=True)


def _running() -> Set[bytes]:
    """The jobs that processes of ours on this node belong to."""
    found: Set[bytes] = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                found.update(_OF_JOB.findall(file.read()))
        except OSError:
            continue  # another user's, or gone
    return found
