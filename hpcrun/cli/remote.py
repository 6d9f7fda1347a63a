"""A command of which the run history is on another machine: it runs there, and is shown here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from hpcrun.cli.output import say
from hpcrun.errors import ConfigError, Problem, TransportError, WaitTimeout
from hpcrun.transport.channel import Channel
from hpcrun.transport.wire import Answer, Ask, Exit, Interrupt, Lend, Output, Place, Request
from hpcrun.workflow.connection import attempts, cache, connected
from hpcrun.workflow.elsewhere import Elsewhere
from hpcrun.workflow.pending import Pending

SHOWN = ("TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR")
"""Variables that tell how to print."""

LOCAL_FILES = {
    "import": "store",
    "setup": "store",
    "build": "env",
}
"""Words of commands that read files of the machine where they run, or change much of it."""


def command(name: str, words: Sequence[str], place: Elsewhere) -> click.Command:
    """The command that runs elsewhere. ConfigError: it is for the machine where the history is."""
    login = place.login.name
    for word in words:
        word = word.partition("=")[0]
        if LOCAL_FILES.get(word) == name:
            message = f"`hpcrun {name} {word}` is for the machine where the run history is"
            raise ConfigError(Problem(message, f"log in to {login} for it"))
    shown = at_terminal if name == "shell" and _is_interactive(words) else show
    return click.Command(
        name,
        callback=lambda: shown(place, [name, *words]),
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


def _is_interactive(words: Sequence[str]) -> bool:
    own = words[: words.index("--")] if "--" in words else words
    return sys.stdin.isatty() and sys.stdout.isatty() and "--json" not in own


def at_terminal(place: Elsewhere, words: Sequence[str]) -> int:
    """Runs a command there at this terminal: what is typed and shown is between it and ssh."""
    from hpcrun.transport import channel

    folder = ["-w", place.folder] if place.folder else []
    return channel.at_terminal(place.login, cache(), [*folder, *words])


def end_in_order() -> None:
    """From here on, TERM and HUP (a closed terminal) end what this command has begun on this
    machine, rsync and folders, before they end it. Who ignores them goes on to."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    for again in (signal.SIGTERM, signal.SIGHUP):  # some come twice, as those of `timeout`
        signal.signal(again, signal.SIG_IGN)
    sys.exit(128 + number)


def show(place: Elsewhere, words: Sequence[str]) -> int:
    """Runs a command there and shows it here, byte for byte; gives its exit code.

    A command that says how to go on is taken up again when the connection was lost. Others end
    with TransportError.
    """
    end_in_order()
    return shown_to_its_end(Shown(request(place.folder, words)), place)


def shown_to_its_end(shown: Shown, place: Elsewhere) -> int:
    """The exit code of a command that is shown, over as many connections as it takes."""
    try:
        for alone in attempts(place.login, shown.sleep):
            try:
                with connected(place, alone) as channel:
                    settle(channel, place)
                    return shown.run(channel)
            except TransportError as error:
                if not (error.transient and shown.may_go_on):
                    raise
                if shown.is_lost():
                    say(f"hpcrun: {error.message}; it is tried again", err=True)
    except KeyboardInterrupt:
        pass
    if shown.may_go_on:
        say("\nthe run goes on; only this view of it ends", err=True)
    return 130


def settle(channel: Channel, place: Elsewhere) -> None:
    """Says what became of submissions that were cut, if there are any."""
    if Pending(cache(), place.named).runs():
        from hpcrun.workflow.sending import settle as say_all

        say_all(channel, place, tell)


def tell(text: str) -> None:
    """Says something beside what a command prints."""
    say(f"hpcrun: {text}", err=True)


def request(
    folder: str,
    words: Sequence[str],
    texts: Mapping[str, str] | None = None,
    source: Mapping[str, Any] | None = None,
) -> Request:
    """A command, and for whom it prints. texts, source: as in `Request`."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    terminals = [number for number, stream in enumerate(streams) if stream.isatty()]
    variables = {name: os.environ[name] for name in SHOWN if name in os.environ}
    size = shutil.get_terminal_size()
    if terminals or "COLUMNS" in os.environ:
        variables |= {"COLUMNS": str(size.columns), "LINES": str(size.lines)}
    return Request(folder, [*words], terminals, variables, dict(texts or {}), dict(source or {}))


def _only_looks(words: Sequence[str]) -> bool:
    """Whether a command waits for a run, and may be begun anew."""
    follows = words[0] == "logs" and not {"-f", "--follow"}.isdisjoint(words)
    return follows or words[0] == "wait"


class Shown:
    """A command that is shown, and how far it has come."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._place: Place | None = None
        self._begun = time.monotonic()
        self._since = self._skipped = 0
        self._is_connected = False

    def is_lost(self) -> bool:
        """Whether the connection was there, and is lost now: that is told once."""
        was, self._is_connected = self._is_connected, False
        return was

    @property
    def may_go_on(self) -> bool:
        """Whether the command has said how to go on after a cut."""
        return self._place is not None

    def run(self, channel: Channel) -> int:
        """Shows what is left of it to its end; gives its exit code. TransportError."""
        self._is_connected = True
        if self._place is None and _only_looks(self._request.words):
            self._place = Place(self._request.words, 1, None)  # cut before it says more: once more
        channel.send(self._rest())
        interrupted = False
        while True:
            try:
                code = self._next(channel)
                if code is not None:
                    return code
            except KeyboardInterrupt:
                if interrupted:  # once more: whatever it does there
                    raise
                interrupted = True
                channel.send(Interrupt())

    def _next(self, channel: Channel) -> int | None:
        frame = channel.receive()
        if isinstance(frame, Output):
            self._show(frame)
        elif isinstance(frame, Ask):
            channel.send(Answer(sys.stdin.readline()))
        elif isinstance(frame, Place):
            self._place, self._begun = frame, time.monotonic()
            self._since = self._skipped
        elif isinstance(frame, Lend):
            from hpcrun.workflow.lent import take

            path, here = take(frame, self._request, channel, cache(), tell)
            channel.send(Answer(json.dumps([str(path), here]) + "\n"))
        elif isinstance(frame, Exit):
            return frame.code
        return None

    def _show(self, frame: Output) -> None:
        """Prints what came, without what was printed before a cut."""
        out, data = sys.stdout if frame.stream == 1 else sys.stderr, frame.data
        if self._place is not None and frame.stream == self._place.stream:
            known = min(len(data), self._skipped)
            self._skipped -= known
            self._since += len(data) - known
            data = data[known:]
        out.buffer.write(data)
        out.flush()

    def _rest(self) -> Request:
        """The request for what has not been shown yet."""
        if self._place is None:
            return self._request
        words, left = [*self._place.words], self._left()
        self._skipped = self._since
        if left is not None:
            words += ["--timeout", f"{left:.3f}"]
        return self._request._replace(words=words)

    def sleep(self, seconds: float) -> None:
        """A pause. WaitTimeout: the time is over that the command was given."""
        left = self._left()
        time.sleep(seconds if left is None else min(seconds, left))
        if left is not None and left <= seconds:
            raise WaitTimeout("the time to wait is over, and there is no connection")

    def _left(self) -> float | None:
        place = self._place
        if place is None or place.seconds is None:
            return None
        return max(0.0, place.seconds - (time.monotonic() - self._begun))
