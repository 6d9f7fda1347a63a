"""The keeper of the agent's own node, as its parent. Standard library only (Python 3.8+).

One that is killed is started again, and told all that the one before it was told.
"""

from __future__ import annotations

import os
from typing import Callable, List, Optional, Set

from hpcrun.agent import keeper
from hpcrun.agent.process import Process
from hpcrun.agent.setting import Setting

STARTS = 4
"""How often a keeper is started, at most."""


class OwnKeeper:
    """The keeper of the agent's own node.

    problem: takes a sentence. pipe: what the keeper listens to; -1 if there was never one.
    """

    def __init__(self, problem: Callable[[str], None]) -> None:
        self.pipe = -1
        self._problem = problem
        self._process: Optional[Process] = None
        self._told: List[str] = []
        self._starts = 0

    def start(self, setting: Setting) -> None:
        """Starts it, and tells it what was told before."""
        self._starts += 1
        try:
            self._process, self.pipe = keeper.start(setting)
        except OSError as error:
            self._problem(f"the keeper cannot be started: {error.strerror}")
            return
        for word in self._told:
            self._write(word)

    def send(self, word: str) -> None:
        """Tells it a word; a later keeper hears it too."""
        self._told.append(word)
        self._write(word)

    def announced(self, command: int) -> None:
        """The command's process has told it its id; a later keeper hears it from here."""
        self._told.append(f"command {command}")

    def groups(self) -> Set[int]:
        """Its process group."""
        return {self._process.pid} if self._process is not None else set()

    def mind(self, setting: Setting) -> None:
        """A child has ended: where it was this one, another is started."""
        if self._process is None or not self._process.has_ended():
            return
        status, self._process = self._process.shell_status, None
        os.close(self.pipe)
        self._problem(f"the keeper on {setting.host} ended with status {status}")
        if self._starts < STARTS:
            self.start(setting)

    def finish(self) -> Optional[Process]:
        """Tells it to bring the rest and end; gives what is to be waited for.

        From here on it is not started again.
        """
        process, self._process = self._process, None
        if process is not None:
            self._write("finish")
        return process

    def _write(self, word: str) -> None:
        try:
            os.write(self.pipe, word.encode() + b"\n")
        except OSError:
            pass  # it is gone, and the next SIGCHLD tells so
