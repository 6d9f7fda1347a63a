"""The helpers on the other nodes, as their launcher. Standard library only (Python 3.8+).

They are told to finish through the launcher's standard input, which srun hands to all its tasks:
a TERM would make srun kill them before they have brought what they keep.
"""

from __future__ import annotations

import os
from signal import SIGKILL
from typing import List, Optional, Sequence, Set

from hpcrun.agent import process
from hpcrun.agent.process import Process


class Helpers:
    """The process that starts one task on each other node. Without words there is none.

    count: how many nodes that are.
    """

    def __init__(self, words: Sequence[str], count: int) -> None:
        self.count = count if words else 0
        self._words = words
        self._answers = -1
        self._said = b""
        self._process: Optional[Process] = None
        self._pipe = -1
        self._minded = False

    def start(self) -> None:
        """Starts them. OSError."""
        if not self._words:
            return
        reading, self._pipe = os.pipe()
        self._answers, writing = os.pipe()
        os.set_blocking(self._answers, False)
        try:
            self._process = process.start(self._words, "/", stdin=reading, stdout=writing)
        finally:
            os.close(reading)
            os.close(writing)
        self._tell("begin")

    def answers(self) -> List[str]:
        """What they have said so far, a line each."""
        if self._answers >= 0:
            self._said += process.read_all(self._answers)
        return self._said.decode("utf-8", "replace").split("\n")[:-1]

    def groups(self) -> Set[int]:
        """Their launcher's process group, if they were started."""
        return {self._process.pid} if self._process is not None else set()

    def failed(self) -> Optional[int]:
        """The status other than 0 they ended with, where nobody had told them to; only once.

        Those that Slurm told to stop have brought all they kept when they end.
        """
        if self._process is None or self._minded or not self._process.has_ended():
            return None
        self._minded = True
        return self._process.shell_status or None

    def stop(self) -> None:
        """Tells them that the ranks should stop by themselves."""
        if self._process is not None:
            self._tell("stop")

    def term(self) -> None:
        """Tells them to send the ranks a TERM."""
        if self._process is not None:
            self._tell("term")

    def finish(self) -> None:
        """Tells them to bring the rest and end."""
        self._minded = True
        if self._process is not None:
            self._tell("finish")
            os.close(self._pipe)
            self._pipe = -1  # a warning may come yet, and its number may be another file's

    def have_ended(self) -> bool:
        """Whether none is left."""
        return self._process is None or self._process.has_ended()

    def kill(self) -> None:
        """Ends them without more waiting."""
        if self._process is not None:
            process.signal_group(self._process.pid, SIGKILL)

    def _tell(self, word: str) -> None:
        try:
            os.write(self._pipe, word.encode() + b"\n")
        except OSError:
            pass  # they are gone, and the next SIGCHLD tells so
