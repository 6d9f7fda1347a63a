"""A child process in a session of its own. Standard library only (Python 3.8+)."""

from __future__ import annotations

import os
from typing import Dict, NoReturn, Optional, Sequence

from hpcrun.agent import signals


class Process:
    """A child. Its pid is also its process group and its session."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: Optional[int] = None

    def has_ended(self) -> bool:
        """Whether it has ended; does not wait."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None

    @property
    def signal(self) -> Optional[int]:
        """The signal that ended it; None if it exited, or still runs."""
        if self._status is None or not os.WIFSIGNALED(self._status):
            return None
        return os.WTERMSIG(self._status)

    @property
    def exit_code(self) -> Optional[int]:
        """What it exited with; None if a signal ended it, or it still runs."""
        if self._status is None or not os.WIFEXITED(self._status):
            return None
        return os.WEXITSTATUS(self._status)

    @property
    def shell_status(self) -> int:
        """Its status as a shell tells it: 128 + n for signal n."""
        return 128 + (self.signal or 0) if self.exit_code is None else self.exit_code

    def send(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if not self.has_ended():
            os.kill(self.pid, number)


def start(
    words: Sequence[str],
    folder: str,
    stdin: Optional[int] = None,
    announce: Optional[int] = None,
    stdout: Optional[int] = None,
) -> Process:
    """Starts a command with default signals. OSError if it cannot be started.

    folder: where it runs. stdin: what it reads (default: nothing). announce: a pipe that is told
    `command <pid>` by the child itself, so that no moment is without it. stdout: what it writes to
    (default: the same as this process).
    """
    answer, failure = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(words, folder, stdin, announce, failure, stdout)
    os.close(failure)
    number = os.read(answer, 16)
    os.close(answer)
    if number:
        os.waitpid(pid, 0)
        raise OSError(int(number), os.strerror(int(number)))
    return Process(pid)


def _become(
    words: Sequence[str],
    folder: str,
    stdin: Optional[int],
    announce: Optional[int],
    failure: int,
    stdout: Optional[int],
) -> NoReturn:
    """The child's part; the pipes close when the new program begins."""
    try:
        os.setsid()
        if announce is not None:
            _announce(announce)
        os.dup2(os.open(os.devnull, os.O_RDONLY) if stdin is None else stdin, 0)
        if stdout is not None:
            os.dup2(stdout, 1)
        environment = given_environment()
        os.chdir(folder)
        signals.restore()
        os.execvpe(words[0], list(words), environment)
    except OSError as error:
        os.write(failure, b"%d" % (error.errno or 1))
    finally:
        os._exit(127)


def _announce(pipe: int) -> None:
    try:
        os.write(pipe, b"command %d\n" % os.getpid())
    except OSError:
        pass  # nobody listens; the command runs all the same


def given_environment() -> Dict[bytes, bytes]:
    """The environment as it was given: an interpreter in the C locale adds LC_CTYPE (PEP 538)."""
    environment = dict(os.environb)
    with open("/proc/self/environ", "rb") as file:
        given = file.read().split(b"\0")
    if not any(item.startswith(b"LC_CTYPE=") for item in given):
        environment.pop(b"LC_CTYPE", None)
    return environment


def read_all(pipe: int) -> bytes:
    """What can be read now from a pipe that does not block."""
    found = b""
    try:
        while True:
            block = os.read(pipe, 1 << 16)
            if not block:
                return found
            found += block
    except BlockingIOError:
        return found


def age() -> float:
    """Seconds since this process began; an exec does not begin it anew."""
    with open("/proc/self/stat", "rb") as file:
        ticks = int(file.read().rpartition(b") ")[2].split()[19])
    with open("/proc/uptime", "rb") as file:
        uptime = float(file.read().split()[0])
    return max(uptime - ticks / os.sysconf("SC_CLK_TCK"), 0.0)


def signal_group(group: int, number: int) -> bool:
    """Signals a process group (0 only asks); whether there is one that is ours."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
