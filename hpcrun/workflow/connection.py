"""Connections to hpcrun on another machine: when one may be tried, and what is asked over it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcrun.errors import HpcrunError
from hpcrun.transport.channel import Channel, connect
from hpcrun.transport.ssh import Login
from hpcrun.transport.wire import Answer, Exit, Lend, Output, Request
from hpcrun.workflow.elsewhere import Elsewhere

LONGEST_PAUSE = 60.0
"""Seconds between two attempts to go on after a lost connection, at most; they begin with two."""

Taken = tuple[Path, Sequence[str]]
"""Where what was lent is here, and the names of files that were there already."""


def cache() -> Path:
    """This user's cache folder on this machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpcrun"


def connected(place: Elsewhere, alone: bool = False) -> Channel:
    """A connection to hpcrun there. alone: nobody is to be asked for anything. TransportError."""
    return connect(place.login, cache(), alone)


def attempts(login: Login, sleep: Callable[[float], object] = time.sleep) -> Iterator[bool]:
    """Attempts at a connection with pauses between them, which grow. Gives whether nobody is to be
    asked for anything: later attempts ask only who sits at a terminal."""
    pause = least = max(2.0, login.access.connect_gap_seconds)
    yield False
    while True:
        begun = time.monotonic()
        sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
        yield not _somebody_is_there()
        if time.monotonic() - begun > 2 * LONGEST_PAUSE:
            pause = least  # it was connected in between


def _somebody_is_there() -> bool:
    """Whether a person could be asked for a code, or a touch."""
    try:
        with Path("/dev/tty").open():
            return sys.stderr.isatty()
    except OSError:
        return False


def ask(
    channel: Channel,
    place: Elsewhere,
    words: Sequence[str],
    texts: Mapping[str, str] | None = None,
    source: Mapping[str, Any] | None = None,
    take: Callable[[Lend, Request], Taken] | None = None,
) -> tuple[int, bytes, bytes]:
    """(exit code, output, errors) of a command there, which asks nobody anything.

    texts, source: as in `Request`. take: brings what the command lends; what it raises is raised
    once the command has ended.
    """
    request = Request(place.folder, [*words], [], {}, dict(texts or {}), dict(source or {}))
    channel.send(request)
    told, failed = {1: bytearray(), 2: bytearray()}, None
    while not isinstance(frame := channel.receive(), Exit):
        if isinstance(frame, Output):
            told[frame.stream] += frame.data
        elif isinstance(frame, Lend) and take is not None:
            try:
                path, here = take(frame, request)
                channel.send(Answer(json.dumps([str(path), here]) + "\n"))
            except HpcrunError as error:
                failed = error
                channel.send(Answer(""))
    if failed is not None:
        raise failed
    return frame.code, bytes(told[1]), bytes(told[2])
