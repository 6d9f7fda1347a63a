"""An open connection to an hpcrun on a login node."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import hpcrun
from hpcrun.errors import TransportError
from hpcrun.transport import credential
from hpcrun.transport.pace import keep_gap
from hpcrun.transport.refusal import CONNECTION, refusal
from hpcrun.transport.ssh import (
    Login,
    Sharing,
    address_words,
    far_command,
    lifetime_of,
    ssh_words,
)
from hpcrun.transport.wire import (
    MARK,
    PROTOCOL,
    Alive,
    Clock,
    Decoder,
    Frame,
    Hello,
    encode,
    greeted,
)

ALIVE = 15.0
"""Seconds between two signs of life."""

SLOW = 60.0
"""Seconds without an answer after which a waiting person is told so."""

PATIENCE = 180.0
"""Seconds without an answer after which a login that nobody sees is given up: while somebody is let
in, ssh itself does not notice that the link is cut."""

LONG_GAP = 5.0
"""Seconds before a login for which nobody waits without a word."""

_CHUNK = 65536
_KEPT = 16384


class Channel:
    """Frames to and from the far side. Made by `connect`; the end of its `with` ends the far side.

    words: `ssh` and its options. logins: where the times of logins are kept.
    """

    def __init__(
        self, login: Login, words: list[str], process: subprocess.Popen[bytes], logins: Path
    ) -> None:
        self.login = login
        self._words, self._logins = words, logins
        self.hello = Hello(0, "")
        self._ahead = 0.0
        self._process = process
        self._decoder = Decoder(greets=True)
        self._waiting: deque[Frame] = deque()
        self._said = bytearray()
        self._passes_on = login.asks
        self._closed = threading.Event()
        self._sending = threading.Lock()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def has_ended(self) -> bool:
        """Whether it is known to be cut, or was closed."""
        return self._closed.is_set() or self._process.poll() is not None

    def time(self) -> float:
        """What time it is there, in seconds since 1970: the clock here may be wrong."""
        return time.time() + self._ahead

    def send(self, *frames: Frame) -> None:
        """Sends frames. What cannot be sent is no error: who reads will find the connection cut."""
        assert self._process.stdin is not None
        with self._sending, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(b"".join(map(encode, frames)))
            self._process.stdin.flush()

    def receive(self) -> Frame:
        """What the far side says next. TransportError, which may pass: the connection is cut."""
        if (frame := self._next()) is not None:
            return frame
        raise TransportError(f"the connection to {self.login.name} is lost{self._why()}", "", True)

    def another(self) -> list[str]:
        """The words that log in once more, for rsync: the host is the last. They share what may be
        shared; if they do not, this waits until they may log in."""
        if not _shares(self._words, self.login):
            _keep_gap(self._logins, self.login)
        return [*self._words, "--", self.login.endpoint.host]

    def close(self) -> None:
        """Ends the connection, and the far side with it."""
        self._closed.set()
        process = self._process
        with contextlib.suppress(OSError, ValueError):
            if process.stdin is not None:
                process.stdin.close()
        if process.stdout is not None:
            process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
        end(process)
        self._listener.join(1)
        if process.stderr is not None:
            process.stderr.close()

    def greet(self, alone: bool = False) -> None:
        """Waits for the far side's first frame, and says who we are. TransportError.

        alone: nobody waits here who could give it up.
        """
        self._wait_for_answer(alone)
        hello = self._next()
        if hello is None:
            code = self._ended()
            said = self._said.decode(errors="replace")
            raise refusal(self.login, code, said, address_of(self.login))
        if not isinstance(hello, Hello):
            raise TransportError(f"{self.login.name} does not say who it is")
        self._passes_on = False
        self.hello = hello
        check_versions(hello, self.login.name)
        self.send(Hello(PROTOCOL, hpcrun.__version__))
        if not isinstance(clock := self.receive(), Clock):
            raise TransportError(f"{self.login.name} does not say what time it is there")
        self._ahead = clock.seconds - time.time()
        threading.Thread(target=self._live, daemon=True).start()

    def _wait_for_answer(self, alone: bool) -> None:
        name, host = self.login.name, self.login.endpoint.host
        is_seen = not alone and sys.stderr.isatty()
        patience = min(SLOW, PATIENCE)
        if self._speaks(patience):
            return
        if not alone:
            why = (
                f"does somebody have to confirm it, or does a profile wait there? `ssh {host} true`"
            )
            sys.stderr.write(f"hpcrun: {name} has not answered yet: {why} tells; Ctrl-C stops\n")
        if not is_seen and not self._speaks(PATIENCE - patience):
            message = f"{name} has not answered for {PATIENCE:.0f} seconds"
            raise TransportError(message, f"does `ssh {host} true` work?", transient=True)

    def _speaks(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def _next(self) -> Frame | None:
        """The next frame; None: the connection has ended. Ctrl-C loses none."""
        assert self._process.stdout is not None
        while not self._waiting:
            data = os.read(self._process.stdout.fileno(), _CHUNK)
            if not data:
                return None
            self._waiting.extend(self._decoder.feed(data))
        return self._waiting.popleft()

    def _ended(self) -> int | None:
        """ssh's exit code once its words are heard, too."""
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:
            return None
        self._listener.join(1)
        return code

    def _listen(self) -> None:
        """What ssh, and the far side beside its frames, says on standard error is kept.

        While a user may be asked, they see it: that is where a server tells what it wants.
        """
        assert self._process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(self._process.stderr.fileno(), _CHUNK):
                self._said += data
                del self._said[:-_KEPT]
                if MARK in self._said and not self.hello.protocol:
                    self._process.terminate()  # hpcrun speaks where it is not heard: `refusal`
                elif self._passes_on or _IS_WANTED in data:
                    sys.stderr.write(data.decode(errors="replace"))
                    sys.stderr.flush()

    def _live(self) -> None:
        while not self._closed.wait(ALIVE):
            self.send(Alive())

    def _why(self) -> str:
        self._ended()
        lines = self._said.decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else ""


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends ssh: if it asks for a code, the terminal shows again what is typed."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_IS_WANTED = b"user presence"
"""What ssh says when a security key waits for a touch."""


def connect(login: Login, cache: Path, alone: bool = False) -> Channel:
    """Logs in, once, and starts hpcrun there. TransportError says why not, and what to do.

    cache: the user's cache folder. alone: nobody is there who could be asked for anything.
    """
    words = login_words(login, cache, alone)
    # Ctrl-C is for the command at the far side: it must not end the way there.
    quiet = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]
    line = far_command(login.access)
    try:
        process = subprocess.Popen(
            [*quiet, *words, "--", login.endpoint.host, line],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise TransportError(f"ssh cannot be run: {error.strerror}", "install OpenSSH") from error
    channel = Channel(login, words, process, cache / "logins")
    try:
        channel.greet(alone)
    except BaseException:
        channel.close()
        raise
    return channel


def at_terminal(login: Login, cache: Path, words: Sequence[str]) -> int:
    """Runs one command of hpcrun's there, at this terminal; gives its exit code. TransportError."""
    ssh = login_words(login, cache, terminal=True)
    line = far_command(login.access, words)
    try:
        process = subprocess.Popen(
            [*ssh, "--", login.endpoint.host, line],
            stdout=subprocess.PIPE,
            stderr=None if login.asks else subprocess.PIPE,
        )
    except OSError as error:
        raise TransportError(f"ssh cannot be run: {error.strerror}", "install OpenSSH") from error
    with process:
        return _passed_on(process, login)


def _passed_on(process: subprocess.Popen[bytes], login: Login) -> int:
    """Shows what a far side prints behind its greeting; gives the exit code. TransportError."""
    assert process.stdout is not None
    said, greeting = b"", None
    while greeting is None and (data := os.read(process.stdout.fileno(), _CHUNK)):
        greeting = greeted(said := said + data)
        said = said[-_KEPT:]
    if greeting is not None:
        hello, behind = greeting
        try:
            check_versions(hello, login.name)
        except TransportError:
            process.terminate()  # it leaves the terminal as it was
            raise
        sys.stdout.buffer.write(behind)
        sys.stdout.flush()
        while data := os.read(process.stdout.fileno(), _CHUNK):
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
    told = process.stderr.read() if process.stderr is not None else b""
    code = process.wait()
    if greeting is None:
        raise refusal(login, code, (said + told).decode(errors="replace"), address_of(login))
    if code == CONNECTION and told:
        words = told.decode(errors="replace").strip().splitlines()[-1].strip()
        raise TransportError(f"the connection to {login.name} is lost: {words}", "", True)
    return code


def login_words(
    login: Login, cache: Path, alone: bool = False, terminal: bool = False
) -> list[str]:
    """`ssh` and its options for a login that may be tried now; parameters as for `connect`.

    terminal: the command has one there.
    """
    words = ssh_words(login, _sharing(login, cache), alone, terminal)
    is_shared = _shares(words, login)
    if not is_shared:
        _keep_gap(cache / "logins", login)
    _warn(login, words if is_shared else ())
    return words


def _keep_gap(folder: Path, login: Login) -> None:
    def sleep(seconds: float) -> None:
        if seconds > LONG_GAP:
            host = login.endpoint.host
            text = f"waiting {seconds:.0f} s: logins at {host} are not to follow each other sooner"
            sys.stderr.write(f"hpcrun: {text}\n")
        time.sleep(seconds)

    keep_gap(folder, login.endpoint.host, login.access.connect_gap_seconds, sleep)


def check_versions(hello: Hello, name: str) -> None:
    """TransportError if the two do not understand each other; other versions that do are told."""
    here, there = hpcrun.__version__, hello.version
    update = f"`hpcrun site bootstrap {name}` brings this one there"
    if _number(there) > _number(here):
        update = f"update this machine's: pip install hpcrun-slurm=={there}"
    if hello.protocol != PROTOCOL:
        if hello.protocol > PROTOCOL:
            update = f"update this machine's: pip install hpcrun-slurm=={there}"
        raise TransportError(
            f"hpcrun {here} here (protocol {PROTOCOL}) and hpcrun {there} on {name}"
            f" (protocol {hello.protocol}) do not understand each other",
            update,
        )
    if here != there:
        sys.stderr.write(f"hpcrun: {here} here, {there} on {name}; {update}\n")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _sharing(login: Login, cache: Path) -> Sharing | None:
    """How this command may share its connection; None where the site's policy says no."""
    if login.access.multiplex not in ("recommended", "allowed"):
        return None
    configured = dict(_settings(login)).get("controlpath", "none") != "none"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) / "hpcrun" if runtime else cache / "ssh"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError:
        return None
    command = os.urandom(4).hex()
    return Sharing(folder, command, configured)


def _shares(words: list[str], login: Login) -> bool:
    """Whether a connection is open that this one would share."""
    if "ControlPath=none" in words:
        return False
    check = [*words, "-O", "check", "--", login.endpoint.host]
    return subprocess.run(check, capture_output=True, check=False).returncode == 0


def _warn(login: Login, shared: Sequence[str]) -> None:
    """Says so if what lets the user in ends soon: a certificate; or else, where the site tells how
    long that is good, what the open connection was made with. shared: ssh's words if it is."""
    access, lifetime = login.access, lifetime_of(login.access)
    what, ends = "your certificate is good for {}", None
    if access.auth == "certificate":
        ends = credential.valid_until(_certificates(login))
    elif lifetime is not None and shared:
        what = "what you logged in with is good for {} at most"
        with contextlib.suppress(OSError):
            ends = _socket(login, shared).stat().st_mtime + lifetime
    said = credential.warning(what, ends, time.time(), lifetime, access.credential_command)
    if said:
        sys.stderr.write(f"hpcrun: {said}\n")


def _certificates(login: Login) -> str:
    """The user's for a login, as `ssh-keygen -L` lists them."""
    named = [file for key, file in _settings(login) if key in ("identityfile", "certificatefile")]
    files = [Path(file).expanduser() for file in credential.certificates(named)]
    listed = "".join(_answer(["ssh-keygen", "-L", "-f", str(f)]) for f in files if f.exists())
    # It may be with the agent alone.
    return listed or _answer(["ssh-keygen", "-L", "-f", "-"], _answer(["ssh-add", "-L"]))


def _socket(login: Login, words: Sequence[str]) -> Path:
    """That of the shared connection, which was made when somebody logged in."""
    return Path(dict(_settings(login, words))["controlpath"])


def address_of(login: Login) -> str | None:
    """What the user's configuration calls the host in truth; None where ssh does not tell."""
    return dict(_settings(login)).get("hostname")


def _settings(login: Login, words: Sequence[str] = ("ssh",)) -> list[tuple[str, str]]:
    """What the user's configuration says of a host: (key, value), a key as often as it stands.

    words: `ssh` and options that come before it.
    """
    words = [*words, "-G", *address_words(login.endpoint), "--", login.endpoint.host]
    lines = (line.partition(" ") for line in _answer(words).splitlines())
    return [(key, value) for key, _, value in lines]


def _answer(words: list[str], said: str = "") -> str:
    try:
        done = subprocess.run(words, capture_output=True, input=said, text=True, check=False)
        return done.stdout
    except OSError:
        return ""
