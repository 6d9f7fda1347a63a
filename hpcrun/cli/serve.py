"""serve: the far side of a connection. Runs each command that the near side asks for, as it is."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import select
import selectors
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NoReturn

import click

import hpcrun
from hpcrun.cli import own_folder, served
from hpcrun.cli.main import main, tell_error
from hpcrun.errors import ConfigError, HpcrunError, Problem, TransportError
from hpcrun.transport.wire import (
    PROTOCOL,
    Answer,
    Ask,
    Clock,
    Decoder,
    Exit,
    Frame,
    Hello,
    Interrupt,
    Output,
    Place,
    Request,
    encode,
    greeting,
)

SILENCE = 120.0
"""Seconds without a sign of life after which nobody is there: the near side gives one each 15."""

GRACE = 1.0
"""Seconds between asking a command to end and ending it."""

RUN_ON = ("submit", "resubmit")
"""What is not ended with the connection: half a submission helps nobody."""

_CHUNK = 65536
_FULL = 1 << 20


@click.command(hidden=True)
@click.argument("words", default="")
def serve(words: str) -> None:
    """Run commands of another machine's hpcrun, on standard input and output.

    WORDS: the one to run at the terminal that is there, and who asks for it, as JSON in hex: shells
    leave that alone.
    """
    if words:
        protocol, command = json.loads(bytes.fromhex(words))
        sys.stdout.buffer.write(greeting(Hello(PROTOCOL, hpcrun.__version__)))
        sys.stdout.flush()
        if protocol != PROTOCOL:
            sys.exit(TransportError.exit_code)  # who asks is told why by their own
        main(command)
    if sys.getfilesystemencoding() != "utf-8":  # as names are told, whatever the locale here says
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what is printed by chance goes where it does no harm
    line = _Line(incoming, outgoing)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, line.end)
    try:
        line.say(greeting(Hello(PROTOCOL, hpcrun.__version__)) + encode(Clock(time.time())))
    except OSError as error:
        why = f"standard output is no connection ({error.strerror})"
        raise TransportError(f"{why}: does a profile redirect it?") from error
    importlib.import_module("hpcrun.workflow.session")  # while the answer is on its way

    try:
        while (request := line.next_request()) is not None:
            code = _Command(request, line).run()
            if code < 0:  # by no word of ours: what it was about, nobody knows
                sys.stderr.write(f"signal {-code} has ended the command there\n")
                return
            if not line.is_gone:  # to a near side that is told nothing, the connection is lost
                line.say(encode(Exit(code)))
    except (TransportError, OSError):
        return


class _Gone(Exception):
    """The near side is not there any more."""


class _Line:
    """The connection. Nothing waits for a reader who is gone.

    wake: can be read once a signal has come.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming, self.outgoing = incoming, outgoing
        self.wake, woken = os.pipe()
        for end in (self.wake, woken):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        self.is_told_to_end = False
        self.unsent = bytearray()
        self.heard = time.monotonic()
        self.is_gone = False
        self._decoder = Decoder(greets=False)
        self._waiting: list[Frame] = []
        os.set_blocking(outgoing, False)

    def next_request(self) -> Request | None:
        """What the near side asks next; None: nothing more."""
        while not self.is_gone:
            for index, frame in enumerate(self._waiting):
                if isinstance(frame, Hello) and frame.protocol != PROTOCOL:
                    raise TransportError(f"protocol {frame.protocol} is not understood")
                if isinstance(frame, Request):
                    del self._waiting[: index + 1]
                    return frame
            self._waiting.clear()
            left = max(0.0, self.heard + SILENCE - time.monotonic())
            ready, _, _ = select.select([self.incoming, self.wake], [], [], left)
            try:
                if not ready:
                    raise _Gone
                if self.wake in ready:
                    self.woken()
                if self.incoming in ready:
                    self._waiting += self.frames()
            except _Gone:
                self.is_gone = True
        return None

    def behind(self) -> list[Frame]:
        """What came together with the request."""
        frames, self._waiting = self._waiting, []
        return frames

    def end(self, *_: object) -> None:
        """A signal tells this process to end: that is as if the near side had gone."""
        self.is_told_to_end = True

    def woken(self) -> None:
        """A signal has come. _Gone: it was one to end."""
        os.read(self.wake, _CHUNK)
        if self.is_told_to_end:
            raise _Gone

    def frames(self) -> list[Frame]:
        """What has come. _Gone."""
        data = os.read(self.incoming, _CHUNK)
        if not data:
            raise _Gone
        self.heard = time.monotonic()
        return list(self._decoder.feed(data))

    def send(self) -> None:
        """Sends what can be sent. _Gone."""
        try:
            sent = os.write(self.outgoing, self.unsent)
        except BlockingIOError:
            return
        except OSError as error:
            raise _Gone from error
        del self.unsent[:sent]

    def say(self, data: bytes) -> None:
        """Sends all of it, and waits for that."""
        self.unsent += data
        with selectors.DefaultSelector() as selector, contextlib.suppress(_Gone):
            selector.register(self.outgoing, selectors.EVENT_WRITE)
            while self.unsent and selector.select(SILENCE):
                self.send()


class _Command:
    """A command in a process of its own, whose output goes to the near side."""

    def __init__(self, request: Request, line: _Line) -> None:
        self._request, self._line = request, line
        self._may_end = not request.words or request.words[0] not in RUN_ON

    def run(self) -> int:
        """Runs it to its end, or to that of the connection; gives its exit code.

        Less than zero: a signal has ended it.
        """
        told, tell = os.pipe()
        printed = [os.pipe(), os.pipe()]
        answers, answer = os.pipe()
        os.set_blocking(told, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        own = own_folder.named()
        # What comes for the child before it can hear it would be lost.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        process = os.fork()
        if process == 0:
            signal.set_wakeup_fd(-1)
            for end in (answer, told, printed[0][0], printed[1][0]):
                os.close(end)
            for number, file in ((0, answers), (1, printed[0][1]), (2, printed[1][1])):
                os.dup2(file, number)
            _become(self._request, tell, own)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with contextlib.suppress(OSError):
            os.setpgid(process, process)
        for end in (tell, answers, printed[0][1], printed[1][1]):
            os.close(end)
        self._process, self._told = process, told
        self._printed = {printed[0][0]: 1, printed[1][0]: 2}
        self._rest = b""
        try:
            return self._attend(answer)
        finally:
            for end in (told, answer, *self._printed):
                os.close(end)
            shutil.rmtree(own, ignore_errors=True)  # whatever ended the command

    def _attend(self, answer: int) -> int:
        line = self._line
        for end in self._printed:
            os.set_blocking(end, False)
        self._heed(line.behind(), answer)
        with selectors.DefaultSelector() as selector:
            for end in (line.wake, self._told, *self._printed, line.incoming):
                selector.register(end, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in self._ready(selector)}
                if line.wake in ready:
                    try:
                        line.woken()
                    except _Gone:
                        self._leave(selector)
                    status = os.waitpid(self._process, os.WNOHANG)
                    if status[0]:
                        for end in (*self._printed, self._told):
                            while self._take(end):
                                pass
                        return os.waitstatus_to_exitcode(status[1])
                if line.incoming in ready:
                    self._hear(selector, answer)
                for end in ready & {self._told, *self._printed}:
                    if self._take(end) is False:
                        selector.unregister(end)
                if time.monotonic() - line.heard > SILENCE:
                    self._leave(selector)

    def _ready(self, selector: selectors.BaseSelector) -> list[tuple[selectors.SelectorKey, int]]:
        """What can be read; what is to be sent is sent meanwhile. A full line holds the command."""
        line = self._line
        if not line.is_gone and line.unsent:
            try:
                line.send()
            except _Gone:
                self._leave(selector)
        waits = bool(line.unsent) and not line.is_gone
        if not waits:
            return selector.select(SILENCE / 4)
        with selectors.DefaultSelector() as other:
            other.register(line.outgoing, selectors.EVENT_WRITE)
            for key in selector.get_map().values():
                is_output = key.fd == self._told or key.fd in self._printed
                if not is_output or len(line.unsent) < _FULL:
                    other.register(key.fd, selectors.EVENT_READ)
            return [found for found in other.select(SILENCE / 4) if found[0].fd != line.outgoing]

    def _hear(self, selector: selectors.BaseSelector, answer: int) -> None:
        try:
            frames = self._line.frames()
        except (_Gone, TransportError):
            self._leave(selector)
            return
        self._heed(frames, answer)

    def _heed(self, frames: Iterable[Frame], answer: int) -> None:
        for frame in frames:
            if isinstance(frame, Interrupt):
                self._signal(signal.SIGINT)
            elif isinstance(frame, Answer):
                with contextlib.suppress(OSError):
                    os.write(answer, frame.line.encode("utf-8", "surrogateescape") or b"\0")

    def _take(self, end: int) -> bool | None:
        """Takes what a pipe holds; None: nothing now, False: nothing more."""
        try:
            data = os.read(end, _CHUNK)
        except BlockingIOError:
            return None
        if end == self._told:
            *lines, self._rest = (self._rest + data).split(b"\n")
            for frame in lines:
                self._may_end = self._may_end or frame.startswith(b'["Place"')
                self._forward(frame + b"\n")
        elif data:
            self._forward(encode(Output(self._printed[end], data)))
        return bool(data)

    def _forward(self, data: bytes) -> None:
        if not self._line.is_gone:
            self._line.unsent += data
        elif self._may_end:
            self._end()

    def _leave(self, selector: selectors.BaseSelector) -> None:
        """Nobody is there any more: the command ends, or goes on alone."""
        if self._line.is_gone:
            return
        self._line.is_gone = True
        self._line.unsent.clear()
        selector.unregister(self._line.incoming)
        if self._may_end:
            self._end()

    def _end(self) -> None:
        self._signal(signal.SIGTERM)
        time.sleep(GRACE)
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process, number)


class Stream(io.RawIOBase):
    """Standard output or error, of which the near side shows each write."""

    def __init__(self, number: int, tell: Callable[[Frame], None], terminal: bool) -> None:
        self._number, self._tell, self._terminal = number, tell, terminal

    def write(self, data: bytes) -> int:  # type: ignore[override]
        piece = bytes(data[:_CHUNK])  # who writes goes on with the rest
        self._tell(Output(self._number, piece))
        return len(piece)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        return self._number


def _answer() -> str:
    """The line that the near side answers with; empty: there is none, or nobody is there."""
    line = b""
    while not line.endswith((b"\n", b"\0")) and (more := os.read(0, _CHUNK)):
        line += more
    return line.rstrip(b"\0").decode("utf-8", "surrogateescape")


class _Questions(io.TextIOBase):
    """Standard input: each line is asked of who sits at the near side."""

    def __init__(self, tell: Callable[[Frame], None], terminal: bool) -> None:
        self._tell, self._terminal = tell, terminal

    def readline(self, size: int = -1) -> str:  # type: ignore[override]
        sys.stdout.flush()
        sys.stderr.flush()
        self._tell(Ask())
        return _answer()

    def readable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._terminal


def _lay(texts: Mapping[str, str], own: Path) -> None:
    """Goes to a folder with the near side's files, beside which the command runs."""
    if not texts.keys() - {"-"}:
        return
    from hpcrun.workflow.settings import CONFIG, find_config, named_folder, named_workspace

    settings, home = {}, find_config(Path.cwd())
    named = named_workspace(Path.cwd(), os.environ)
    if home is not None and named.origin == str(home):
        settings["workspace"] = str(named_folder(*named))
    own_folder.make(own)
    folder = own / "beside"
    for name, text in {str(CONFIG): json.dumps(settings), **texts}.items():
        file = Path(folder, name)
        if ".." in file.parts or not file.is_relative_to(folder):
            raise ConfigError(Problem(f"{name} is no name for a file that is sent"))
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise own_folder.no_room(own, error) from error
    os.chdir(folder)


def _end_unserved(may_end: threading.Event) -> None:
    """Ends this command once nobody serves it any more: who was killed has told it nothing."""
    answers = select.poll()
    answers.register(0, 0)  # of the pipe of answers, only its end is told
    answers.poll()
    may_end.wait()
    os.killpg(0, signal.SIGTERM)


def _become(request: Request, told: int, own: Path) -> NoReturn:
    """The command itself, in its process: hpcrun as everywhere, with another way out.

    own: the name of a folder that it may make, and that is removed when it has ended.
    """
    code: object = 1
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
        for heard in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(heard, signal.SIG_DFL)

        turn = threading.Lock()  # a bar is drawn by a thread of its own
        may_end = threading.Event()
        if request.words and request.words[0] not in RUN_ON:
            may_end.set()
        threading.Thread(target=_end_unserved, args=(may_end,), daemon=True).start()

        def send(frame: Frame) -> None:
            if isinstance(frame, Place):
                may_end.set()
            data = encode(frame)
            with turn:
                while data:
                    data = data[os.write(told, data) :]

        os.environ.update(request.variables)
        if "-" in request.texts:
            sys.stdin = io.TextIOWrapper(io.BytesIO(request.texts["-"].encode()), "utf-8")
        else:
            sys.stdin = _Questions(send, 0 in request.terminals)
        for number in (1, 2):
            terminal = number in request.terminals
            raw = io.BufferedWriter(Stream(number, send, terminal))  # type: ignore[type-var]
            errors = "strict" if number == 1 else "backslashreplace"
            buffered = number == 2 or terminal
            stream = io.TextIOWrapper(raw, "utf-8", errors, line_buffering=buffered)
            setattr(sys, "stdout" if number == 1 else "stderr", stream)
        served.begin(served.Near(send, _answer, request.source, own))
        words = ["-w", request.workspace] if request.workspace else []
        try:
            _lay(request.texts, own)
        except HpcrunError as error:
            tell_error(error)
            sys.exit(error.exit_code)
        main([*words, *request.words])
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:  # before `main` could hear it
        code = 130
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)
