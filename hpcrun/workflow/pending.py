"""Submissions that went to another machine, until it is known what became of them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from hpcrun.errors import StoreError

KEPT = 30 * 86400.0
"""Seconds for which a submission is asked about."""


class Pending:
    """Those to one place, such as `mila:/history`. cache: the user's cache folder."""

    def __init__(self, cache: Path, place: str) -> None:
        self._folder, self._place = cache / "pending", place

    @contextlib.contextmanager
    def noted(self, run_id: str) -> Iterator[None]:
        """Notes a run before anything of its submission is sent; meanwhile nobody else asks what
        became of it, which would withdraw it. StoreError: it cannot be noted."""
        file = self._file(run_id)
        aside = file.with_suffix(".aside")
        with contextlib.ExitStack() as stack:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                aside.write_text(json.dumps({"place": self._place}))
                held = stack.enter_context(aside.open("r+"))
                with contextlib.suppress(OSError):  # without locks, another may ask too early
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                aside.rename(file)
            except OSError as error:
                why = os.strerror(error.errno) if error.errno else str(error)
                raise StoreError(
                    f"cannot note in {self._folder} what is submitted: {why}; nothing was",
                    "free space there, or set XDG_CACHE_HOME to another folder",
                ) from error
            yield

    def remove(self, run_id: str) -> None:
        """It is known what became of it."""
        with contextlib.suppress(OSError):
            self._file(run_id).unlink()

    def has(self, run_id: str) -> bool:
        """Whether it is not known yet what became of a run."""
        return self._file(run_id).exists()

    def runs(self) -> Sequence[str]:
        """The runs of which it is not known and nobody else asks, oldest first."""
        found = []
        for file in self._folder.glob("*.json") if self._folder.is_dir() else ():
            with contextlib.suppress(OSError, ValueError, KeyError), file.open() as noted:
                age = time.time() - file.stat().st_mtime
                if age > KEPT:
                    file.unlink()
                elif json.load(noted)["place"] == self._place and not _is_held(noted):
                    found.append((age, file.stem))
        return [run_id for _, run_id in sorted(found, reverse=True)]

    def _file(self, run_id: str) -> Path:
        return self._folder / f"{run_id}.json"


def _is_held(noted: TextIO) -> bool:
    """Whether somebody is at work who asks what became of it."""
    try:
        fcntl.flock(noted, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False
