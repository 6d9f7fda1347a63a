"""What is remembered for the next process, in files of the user's cache folder.

It is a cache: what is damaged, or another user's, is nothing, and failing to write is no error.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Remembered(NamedTuple):
    """A folder of such files. kind: what they hold, and how; it stands in their first line."""

    folder: Path
    kind: str

    def recall(self, name: str) -> bytes | None:
        """What is remembered under a name; None: nothing of that kind."""
        try:
            with (self.folder / name).open("rb") as file:
                if os.fstat(file.fileno()).st_uid != os.getuid():
                    return None
                head, _, body = file.read().partition(b"\n")
        except OSError:
            return None
        return body if head == self._head(body) else None

    def remember(self, name: str, body: bytes) -> None:
        """Writes it aside and renames it into place."""
        aside = self.folder / f".{name}.{os.urandom(6).hex()}"
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                aside.write_bytes(self._head(body) + b"\n" + body)
                aside.rename(self.folder / name)
            finally:
                aside.unlink(missing_ok=True)

    def _head(self, body: bytes) -> bytes:
        return f"hpcrun {self.kind} {zlib.crc32(body):08x}".encode()
