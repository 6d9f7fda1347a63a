"""The one connection of a workspace on another machine: made when it is needed, and kept."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hpcrun.errors import (
    BuildError,
    ConfigError,
    ForeignRun,
    HpcrunError,
    PlanError,
    Problem,
    RunNotFound,
    SchedulerError,
    SnapshotError,
    StoreError,
    TemplateError,
    TransportError,
)
from hpcrun.saying import SAID, say_on_stderr
from hpcrun.transport.channel import Channel
from hpcrun.transport.wire import Lend, Request
from hpcrun.workflow.connection import Taken, ask, cache, connected
from hpcrun.workflow.elsewhere import Elsewhere
from hpcrun.workflow.pending import Pending

_OF_FILES = (ConfigError, PlanError, TemplateError)

_KINDS: Mapping[int, type[HpcrunError]] = {
    kind.exit_code: kind
    for kind in (
        *(SnapshotError, TransportError, SchedulerError, StoreError),
        *(RunNotFound, ForeignRun, BuildError),
    )
}


class Line:
    """A connection to a place, for one question at a time.

    A connection that is lost while it is asked raises TransportError; the next question makes
    another. It ends with `close`, with this object, or with the program. A copy, and a process that
    was forked, make their own.
    """

    def __init__(self, place: Elsewhere) -> None:
        self.place = place
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._open: list[Channel] = []
        self._turn = threading.RLock()
        self._end = weakref.finalize(self, _close, self._open)

    def __reduce__(self) -> tuple[type[Line], tuple[Elsewhere]]:
        return Line, (self.place,)

    @contextmanager
    def held(self, alone: bool = False) -> Iterator[Channel]:
        """The connection, for nobody else meanwhile. alone: nobody is to be asked for anything.

        What interrupts its use in the midst of an answer ends it. TransportError.
        """
        self._leave_to_parent()
        with self._turn:
            try:
                yield self._connected(alone)
            except BaseException as error:
                if isinstance(error, TransportError) or not isinstance(error, HpcrunError):
                    self.close()
                raise

    def _leave_to_parent(self) -> None:
        """In a process that was forked: the connection, and whose turn it is, are not its own."""
        if self._process != os.getpid():
            self._end.detach()
            self._begin()

    def _connected(self, alone: bool) -> Channel:
        if self._open and self._open[0].has_ended:
            self.close()  # nothing was asked of it: that is no loss
        if not self._open:
            self._open.append(connected(self.place, alone))
            if Pending(cache(), self.place.named).runs():
                from hpcrun.workflow.sending import settle

                settle(self._open[0], self.place, say_on_stderr)
        return self._open[0]

    def ask(
        self,
        words: Sequence[str],
        texts: Mapping[str, str] | None = None,
        source: Mapping[str, Any] | None = None,
        take: Callable[[Lend, Request], Taken] | None = None,
    ) -> bytes:
        """What a command prints there; what else it says is said here. Parameters as for `ask`.

        HpcrunError: it failed, with what was said there; of the kind that its exit code tells.
        """
        with self.held() as channel:
            return answered(*ask(channel, self.place, words, texts, source, take))

    def close(self) -> None:
        """Ends the connection; the next question makes another."""
        self._leave_to_parent()
        with self._turn:
            _close(self._open)


def _close(channels: list[Channel]) -> None:
    while channels:
        channels.pop().close()


def answered(code: int, output: bytes, said: bytes) -> bytes:
    """What a command has printed that has not failed; else the error that it ended with."""
    lines = said.decode(errors="replace").splitlines()
    if code:
        raise failure(code, lines)
    for line in lines:
        sys.stderr.write(f"{line}\n")
    return output


def failure(code: int, lines: Sequence[str]) -> HpcrunError:
    """The error of a command that ended with that exit code, and said these lines."""
    told = [line.removeprefix(SAID) for line in lines if line.strip()] or [f"exit code {code}"]
    for kind in _OF_FILES:
        if kind.exit_code == code:
            return kind(*map(Problem, told))
    return _KINDS.get(code, HpcrunError)("; ".join(told))
