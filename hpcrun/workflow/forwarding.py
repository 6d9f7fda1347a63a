"""Ports of this machine whose connections come out on a node, while something goes on."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from hpcrun.agent.relay import Relay
from hpcrun.errors import ConfigError, Problem, SchedulerError
from hpcrun.ports import Command

LOOPBACK = "127.0.0.1"

LAST_WORDS = 5.0
"""Seconds in which the step must end once nobody needs it."""


class Port(NamedTuple):
    """A port here (0: any that is free), and one on the node."""

    here: int
    there: int

    @classmethod
    def parse(cls, text: str) -> Port:
        """`PORT`, or `HERE:PORT`. ConfigError."""
        here, _, there = text.rpartition(":")
        numbers = [here or there, there]
        if all(number.isascii() and number.isdecimal() for number in numbers):
            port = cls(*map(int, numbers))
            if port.here < 1 << 16 and 0 < port.there < 1 << 16:
                return port
        raise ConfigError(Problem(f"{text!r} is no port", "6006, or 8080:6006: here, and there"))


@contextlib.contextmanager
def forwarding(ports: Sequence[Port], command: Command) -> Iterator[list[Port]]:
    """Forwards ports, on the loopback interface only; gives them with their numbers here.

    command: what starts the node's end. ConfigError: a port is taken. SchedulerError: no such step.
    """
    with contextlib.ExitStack() as stack:
        listeners = [(stack.enter_context(_listener(port)), port.there) for port in ports]
        said = stack.enter_context(tempfile.TemporaryFile())
        step = stack.enter_context(_step(command, said))
        assert step.stdin is not None and step.stdout is not None
        if not _is_ready(step.stdout):
            step.wait()
            said.seek(0)
            words = " ".join(said.read().decode("utf-8", "replace").split())
            raise SchedulerError(f"nothing can be forwarded: {words or 'srun said nothing'}")
        relay = Relay(step.stdout.fileno(), step.stdin.fileno(), dict(listeners))
        passing = threading.Thread(target=relay.run, daemon=True)
        passing.start()
        try:
            yield [Port(listener.getsockname()[1], there) for listener, there in listeners]
        finally:
            step.terminate()
            passing.join(LAST_WORDS)


def _listener(port: Port) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port.here))
        listener.listen()
    except OSError as error:
        listener.close()
        hint = f"another one here: 0:{port.there} takes any that is free"
        raise ConfigError(
            Problem(f"cannot listen on port {port.here}: {error.strerror}", hint)
        ) from error
    return listener


@contextlib.contextmanager
def _step(command: Command, said: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """In a session of its own: Ctrl-C is meant for what else goes on."""
    try:
        step = subprocess.Popen(
            command.words,
            env=command.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise SchedulerError(f"{command.words[0]} cannot be run: {error.strerror}") from error
    with step:
        try:
            yield step
        finally:
            step.terminate()
            try:
                step.wait(LAST_WORDS)
            except subprocess.TimeoutExpired:
                step.kill()


def _is_ready(output: IO[bytes]) -> bool:
    """Whether the node's end came up; the relay reads what follows its first line itself."""
    line = b""
    while not line.endswith(b"\n"):
        if not (byte := output.read(1)):
            return False
        line += byte
        if line == b"\n" or (line.endswith(b"\n") and line != b"ready\n"):
            line = b""
    return True
