"""Brings this very hpcrun to a cluster that has no internet, into the user's own space there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import shlex
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, NamedTuple

import hpcrun
from hpcrun.errors import BuildError, TransportError
from hpcrun.progress import counted, waiting
from hpcrun.transport import install, retire
from hpcrun.transport.channel import address_of, end
from hpcrun.transport.refusal import astray, refusal
from hpcrun.transport.ssh import Login
from hpcrun.transport.wheels import Platform

ROOT = "~/.local/share/hpcrun"
"""Where it goes."""

LEAST = (3, 11)

PYTHONS = ("python3.13", "python3.12", "python3.11", "python3.14", "python3")
"""Those that are looked for, unless the site file names one."""

ROOM = 5
"""Times the bytes of the wheels that are free before it is begun: they are unpacked."""

_MARK = "hpcrun-probe-begins"
_READY = "hpcrun-install-reads"

_PROBE = r"""
printf '\n%s\n' '{mark}'
echo "machine $(uname -m)"
echo "system $(uname -s)"
echo "glibc $(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)"
echo "home $HOME"
for p in {pythons}; do
  found=$("$p" -c 'import sys, venv; print("%d.%d" % sys.version_info[:2], sys.executable)' \
    2>/dev/null) && echo "python $found"
done
root="$HOME/.local/share/hpcrun"
echo "current $(readlink "$root/current")"
for f in "$root"/*/complete; do test -f "$f" && echo "there $(basename "$(dirname "$f")")"; done
echo "free $(df -Pk "$HOME" 2>/dev/null | awk 'NR==2 {{print $4}}')"
echo end
"""


@dataclass(frozen=True)
class Found:
    """What a login node says of itself.

    python: the interpreter that hpcrun is to run with. there: the names of what is installed.
    current: the one that counts; empty: none. free: bytes, None where they are not known.
    """

    platform: Platform
    python: str
    home: str
    current: str
    there: frozenset[str]
    free: int | None


def probe_text(python: str | None) -> str:
    """The script that asks, for any POSIX shell. python: the interpreter that the site names."""
    pythons = shlex.join([python] if python else PYTHONS)
    return _PROBE.format(mark=_MARK, pythons=pythons)


def found_in(said: str, name: str, python: str | None) -> Found:
    """What the script has said. BuildError: hpcrun cannot run there; TransportError: no answer."""
    lines = said.partition(f"\n{_MARK}\n")[2].splitlines()
    if not lines or lines[-1] != "end":
        raise TransportError(f"{name} does not say what it is", "is its login shell a shell?")
    told: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        told.setdefault(key, []).append(value.strip())
    glibc = re.fullmatch(r"2\.(\d+)", told["glibc"][0])
    if told["system"] != ["Linux"] or glibc is None:
        system = f"{told['system'][0]} with C library {told['glibc'][0] or 'unknown'}"
        raise BuildError(f"{name} is {system}: there are wheels for Linux with glibc 2 only")
    version, interpreter = _chosen(told.get("python", []), name, python)
    platform = Platform(told["machine"][0], (2, int(glibc[1])), version)
    free = told["free"][0]
    return Found(
        platform,
        interpreter,
        told["home"][0],
        told["current"][0],
        frozenset(told.get("there", ())),
        int(free) << 10 if free.isdecimal() else None,
    )


def _chosen(told: Sequence[str], name: str, asked: str | None) -> tuple[tuple[int, int], str]:
    """The version and path of the interpreter to take."""
    seen = []
    for line in told:
        if version := re.fullmatch(r"(\d+)\.(\d+) (/.*)", line):
            seen.append(((int(version[1]), int(version[2])), version[3]))
    for known, path in seen:
        if known >= LEAST:
            return known, path
    needed = f"{LEAST[0]}.{LEAST[1]} or newer"
    others = ", ".join(f"{path} is {v[0]}.{v[1]}" for v, path in seen)
    others = f": {others}" if others else ""
    if asked is not None:
        raise BuildError(
            f"{asked} on {name} is no Python {needed} with venv{others}",
            "ssh.python of the site file names it",
        )
    raise BuildError(
        f"there is no Python {needed} with venv on {name}{others}",
        "name one in ssh.python of the site file; modules may have it (`module avail python`)",
    )


def probe(shell: Shell, python: str | None = None) -> Found:
    """Asks a login node what it is. BuildError: hpcrun cannot run there. TransportError."""
    return found_in(shell.ask(probe_text(python), "\nend\n"), shell.login.name, python)


def install_name(wheel: Path, found: Found) -> str:
    """The folder's name: the version, and a digest of the code and what it runs with."""
    digest = hashlib.sha256(wheel.read_bytes())
    digest.update(f"\0{found.platform}\0{found.python}".encode())
    return f"{hpcrun.__version__}-{digest.hexdigest()[:12]}"


def send(shell: Shell, found: Found, folder: str, wheels: Sequence[Path]) -> str:
    """Installs wheels there as `folder` unless it is there, and makes it the current one.

    Gives its path. BuildError: nothing of it is left there. TransportError: the connection was
    lost; what had come is removed there, too.
    """
    name, size = shell.login.name, sum(wheel.stat().st_size for wheel in wheels)
    if found.free is not None and found.free < ROOM * size:
        raise BuildError(
            f"hpcrun needs about {ROOM * size >> 20} MiB in {found.home} on {name}, and"
            f" {found.free >> 20} MiB are free",
            "free space there",
        )
    asked = json.dumps({"name": folder, "python": found.python}).encode() + b"\n"
    _begin(shell, found, install)
    with tempfile.TemporaryFile() as body:
        body.write(asked)
        with tarfile.open(fileobj=body, mode="w|") as tar:
            for wheel in wheels:
                tar.add(wheel, wheel.name)
        shell.send(body)
    with waiting(f"installing on {name}"):
        output = shell.rest()
    for said in output.splitlines():
        what, _, told = said.partition(" ")
        if what == "installed":
            place: str = json.loads(told)
            return place
        if what == "failed":
            raise BuildError(f"hpcrun could not be installed on {name}: {json.loads(told)}")
    raise TransportError(
        f"the connection to {name} was lost{shell.last_words()}",
        "try again: nothing is half-installed",
        transient=True,
    )


class Version(NamedTuple):
    """A version that is installed, or what is left of one. why: it stays; empty: it may go."""

    name: str
    bytes: int
    why: str


def versions(shell: Shell, found: Found) -> list[Version]:
    """What is installed there, and what of it nothing uses: `retire`. TransportError."""
    _begin(shell, found, retire)
    return [Version(*each) for each in _told(shell, "")]


def remove(shell: Shell, names: Sequence[str]) -> list[str]:
    """Removes versions that `versions` has told may go, unless one is used since; gives which."""
    return [str(name) for name in _told(shell, f"{json.dumps(names)}\n")]


def _told(shell: Shell, line: str) -> list[Any]:
    """What the program there tells next. TransportError."""
    said = shell.ask(line, f"\n{retire.END}\n")
    told: list[Any] = json.loads(said.splitlines()[-2])
    return told


def _begin(shell: Shell, found: Found, program: ModuleType) -> None:
    """Has the shell become a program of ours, which reads what is sent from here on."""
    text = Path(program.__file__ or "").read_bytes()
    # The shell has read ahead: what follows is sent once Python is there to read it.
    begin = f"import sys; print({_READY!r}, flush=True); f = sys.stdin.buffer; "
    begin += "exec(f.read(int(f.readline())))"
    shell.ask(f"exec {shlex.join([found.python, '-c', begin])}\n", f"{_READY}\n")
    shell.write(b"%d\n%s" % (len(text), text))


class Shell:
    """A POSIX shell on a login node, over one connection: whatever the login shell is.

    words: `ssh` and its options.
    """

    def __init__(self, login: Login, words: Sequence[str]) -> None:
        self.login = login
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  its end is that of the `with`
        try:
            self._process = subprocess.Popen(
                [*words, "--", login.endpoint.host, "exec sh -s"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if login.asks else self._said,
            )
        except OSError as error:
            self._said.close()
            message = f"ssh cannot be run: {error.strerror}"
            raise TransportError(message, "install OpenSSH") from error

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)
        with contextlib.suppress(OSError):
            self._process.communicate()
        self._said.close()

    def ask(self, script: str, end: str) -> str:
        """What a script prints, up to its end. TransportError: it does not come, or elsewhere."""
        self.write(script.encode())
        assert self._process.stdout is not None
        text = b""
        while not text.endswith(end.encode()):
            if not select.select([self._process.stdout], [], [], 1)[0]:
                if end in self._errors():
                    raise astray(self.login.name)
                continue
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            if not more:
                code = self._process.wait()
                raise refusal(self.login, code, self._errors(), address_of(self.login))
            text += more
        return text.decode(errors="replace")

    def send(self, body: IO[bytes]) -> None:
        """Sends all of a file."""
        length = body.tell()
        body.seek(0)
        with counted(f"packages to {self.login.name}", length) as tell:
            while block := body.read(1 << 18):
                self.write(block)
                tell(len(block))

    def rest(self) -> str:
        """What is printed to the end; nothing more is sent, but what runs there sees us wait."""
        assert self._process.stdout is not None
        return self._process.stdout.read().decode(errors="replace")

    def last_words(self) -> str:
        """The last that ssh, or what ran there, has said on standard error."""
        lines = self._errors().strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def _errors(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace")

    def write(self, data: bytes) -> None:
        """Sends data. What is not taken is no error: who reads finds the connection cut."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(data)
            self._process.stdin.flush()
