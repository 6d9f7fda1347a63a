"""What two processes on two hosts tell each other through a folder. Standard library only (3.8+).

A message is told in two ways at once, since a file system may be slow in either: as a line that is
appended to the teller's own file, and as a file with a name of its own. The listener takes what it
sees first, and every wait has a limit.

The first side announces steps; in each, both tell what belongs to it. Who is left behind in a step
goes on with the next.
"""

from __future__ import annotations

import errno
import json
import os
import time
from typing import Any, Callable, List, Optional, Tuple

FIRST, SECOND = "first", "second"
_OVER, _FAILED = "over", "failed"


class Silence(Exception):
    """The other side does not tell something, or no more; the text says what."""


class Passed(Exception):
    """The first side has gone on to the next step."""


class Talk:
    """One side of a talk. folder: both see it. patience: seconds that a message may take."""

    def __init__(self, folder: str, own: str, patience: float) -> None:
        self.folder = folder
        self.patience = patience
        self._own = own
        self._other = SECOND if own == FIRST else FIRST
        self._step = 0

    @property
    def own(self) -> str:
        """Which side this is: first or second."""
        return self._own

    def announce(self, step: str) -> None:
        """Begins the next step. OSError."""
        self._step += 1
        self._tell(f"step-{self._step}", step)

    def follow(self) -> str:
        """The step that comes next. Silence."""
        step: str = self._heard(f"step-{self._step + 1}", ())
        self._step += 1
        return step

    def send(self, name: str, data: Any = None) -> None:
        """Tells something in this step. OSError."""
        self._tell(f"{self._step}-{name}", data)

    def hear(self, name: str) -> Any:
        """What the other side tells in this step. Silence; Passed; OSError if that failed there."""
        ends = [f"{self._step}-{_FAILED}"]
        if self._own == SECOND:
            ends.append(f"step-{self._step + 1}")
        return self._heard(f"{self._step}-{name}", ends)

    def fail(self, error: OSError) -> None:
        """Tells that this step failed here. OSError."""
        self.send(_FAILED, error_name(error))

    def end(self) -> None:
        """Tells that nothing more will come, if that can be told."""
        try:
            self._tell(_OVER, None)
        except OSError:
            pass  # the other side's patience ends it

    def heard_by_now(self, name: str) -> Any:
        """What it has told in this step; None: nothing yet."""
        return (self._message(f"{self._step}-{name}") or (name, None))[1]

    def wait_for_end(self, seconds: float) -> None:
        """Waits until the other side has ended, for so long at most."""
        until(lambda: self._message(_OVER), seconds)

    def _heard(self, name: str, ends: Any) -> Any:
        def message() -> Optional[List[Any]]:
            return next(filter(None, map(self._message, (name, *ends, _OVER))), None)

        found, _ = until(message, self.patience)
        if not found:
            raise Silence(f"the {self._other} side was silent for {self.patience:g} s ({name})")
        if found[0] == _OVER:
            raise Silence(f"the {self._other} side has ended ({name})")
        if found[0] == f"{self._step}-{_FAILED}":
            raise OSError(0, f"on the {self._other} side: {found[1]}")
        if found[0] != name:
            raise Passed
        return found[1]

    def _tell(self, name: str, data: Any) -> None:
        """Closing is what makes a node's writes visible to others: no disk is waited for."""
        text = json.dumps([name, data])
        with open(self._log(self._own), "a", encoding="utf-8") as log:
            log.write(text + "\n")
        write_whole(self._file(self._own, name), text, sync=False)

    def _message(self, name: str) -> Optional[List[Any]]:
        texts = [read_text(self._file(self._other, name))]
        texts += read_text(self._log(self._other)).splitlines()
        return next((m for m in map(_decoded, texts) if m and m[0] == name), None)

    def _log(self, side: str) -> str:
        return os.path.join(self.folder, f"{side}.log")

    def _file(self, side: str, name: str) -> str:
        return os.path.join(self.folder, f"{side}.{name}")


def until(condition: Callable[[], Any], seconds: float) -> Tuple[Any, float]:
    """(what a condition gives, when) once it is true; what it gave last, at the limit.

    It is asked often at first and then ever less, so that the moment is known to a twentieth.
    """
    began = time.monotonic()
    while True:
        found, now = condition(), time.time()
        past = time.monotonic() - began
        if found or past > seconds:
            return found, now
        time.sleep(min(0.5, max(0.002, past / 20)))


def create(path: str) -> None:
    """Makes an empty file of a name that is free. OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def write_whole(path: str, text: str, sync: bool = True) -> None:
    """Writes a file aside, and gives it its name. sync: when the disk has all of it. OSError."""
    aside = f"{path}.part"
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    os.rename(aside, path)


def read_text(path: str) -> str:
    """The text of a file; nothing where there is none, or it cannot be read now."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def error_name(error: OSError) -> str:
    """An error by its constant and text: `EPERM, Operation not permitted`."""
    text = error.strerror or str(error)
    return f"{errno.errorcode.get(error.errno, error.errno)}, {text}" if error.errno else text


def _decoded(text: str) -> Optional[List[Any]]:
    """A message; None for a text that is not there, or not whole yet."""
    try:
        message = json.loads(text)
    except ValueError:
        return None
    return message if isinstance(message, list) and len(message) == 2 else None
