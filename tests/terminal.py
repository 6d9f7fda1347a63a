"""A command at a terminal, where somebody types."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence

from tests.lab import eventually


class Terminal:
    """A command in a pseudo-terminal of 33 lines and 101 columns, which is its own."""

    def __init__(self, words: Sequence[str]) -> None:
        self._master, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
        self.process = subprocess.Popen(words, stdin=end, stdout=end, stderr=end)
        os.close(end)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def shows(self, pattern: str) -> re.Match[str]:
        """Waits until it does, behind what was looked for before."""
        deadline = time.monotonic() + 120
        while (match := re.search(pattern, self.shown)) is None:
            assert time.monotonic() < deadline, self.shown
            self._read()
        self.shown = self.shown[match.end() :]
        return match

    def _read(self) -> None:
        if select.select([self._master], (), (), 0.2)[0]:
            with contextlib.suppress(OSError):
                self.shown += os.read(self._master, 1 << 16).decode("utf-8", "replace")

    def is_over(self) -> bool:
        self._read()
        return self.process.poll() is not None

    def ends(self) -> int:
        eventually(self.is_over)
        self._read()
        os.close(self._master)
        return self.process.wait()
