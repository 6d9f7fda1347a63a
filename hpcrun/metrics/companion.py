"""Starting the companion of this process (see `hpcrun.agent.companion`). Python 3.8+."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from typing import Any, Dict, Mapping, Optional, Tuple

from hpcrun.metrics.context import Context

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); from hpcrun.agent.companion import main; main()"
)


class Companion:
    """The companion of this process; it is started with the first run, again if it has died.

    No method raises OSError: without a companion a run's records stay in its spool, from where
    `hpcrun collect` brings them.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._runs: Dict[str, Tuple[Context, bool]] = {}
        self._owner = os.getpid()

    def begin(self, context: Context, beats: bool) -> bool:
        """Keeps a run from now on; tells whether there is somebody who does.

        beats: it has begun, and others shall see that it is alive.
        """
        with self._lock:
            self._runs[context.run_id] = context, beats
            return self._is_there() and self._say(_begin(context, beats))

    def look(self) -> None:
        """Sees that it lives."""
        with self._lock:
            self._is_there()

    def finish(self, run_id: str) -> None:
        """A run's end is told."""
        with self._lock:
            if self._runs.pop(run_id, None) is not None and self._is_there():
                self._say({"finish": run_id})

    def leave(self) -> None:
        """This process ends; what it has not ended, the companion does."""
        if self._process is not None and os.getpid() == self._owner:
            _close(self._process)
            self._process.returncode = 0  # nobody waits for it

    def _is_there(self) -> bool:
        """Whether it lives; one that died is started again, and told of all runs."""
        if os.getpid() != self._owner:
            return True  # a forked child: the companion is its parent's
        if self._process is not None and self._process.poll() is None:
            return True
        _close(self._process)
        self._process = _start()
        told = [self._say(_begin(context, beats)) for context, beats in self._runs.values()]
        return self._process is not None and all(told)

    def _say(self, word: Mapping[str, Any]) -> bool:
        if self._process is None or self._process.stdin is None:
            return False
        try:
            self._process.stdin.write(json.dumps(word).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return False
        return True


def _close(process: Optional[subprocess.Popen[bytes]]) -> None:
    if process is not None and process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            pass  # it has gone already


def _begin(context: Context, beats: bool) -> Dict[str, Any]:
    return {
        "begin": context.run_id,
        "beats": beats,
        "spool": context.spool,
        "record": context.record,
        "attempt": str(context.attempt),
    }


def _start() -> Optional[subprocess.Popen[bytes]]:
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CODE, _ROOT, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    except OSError:
        return None


COMPANION = Companion()

atexit.register(COMPANION.leave)
