"""Sealing in the background: what an owner's next command starts, if something may be due.

It looks at names only, and is in every list and submission: what seals is imported by the process
that is started.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from hpcrun.layout import RUN_ID
from hpcrun.workflow.session import Session

DUE = 900.0
"""Seconds after its end when a run is sealed without being asked."""

PAUSE = 900.0
"""Seconds between two looks, on one host, for what is due."""


def seal_later(session: Session) -> None:
    """Starts a process of its own that seals what is due, if a run may be: one look at active/."""
    begun = [
        int(match["seconds"]) for match in map(RUN_ID.match, session.store.active_ids()) if match
    ]
    if not begun or time.time() - min(begun) < DUE or not _is_our_turn(session):
        return
    words = [sys.executable, "-m", "hpcrun", "-w", str(session.workspace), "store", "seal", "--due"]
    try:
        subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except OSError:
        pass  # the next command tries again


def _is_our_turn(session: Session) -> bool:
    """Whether nobody on this host has looked for a while; from now on somebody has."""
    stamp = session.cache / "sealing" / str(session.workspace).replace("/", "%")
    try:
        if 0 <= time.time() - stamp.stat().st_mtime < PAUSE:
            return False
    except OSError:
        pass
    try:
        stamp.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp.touch()
        os.utime(stamp)
    except OSError:
        return False
    return True
