"""Connections through two pipes: what a client and a server on the node say to each other."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcrun.agent.relay import WINDOW
from hpcrun.errors import ConfigError, SchedulerError
from hpcrun.ports import Command
from hpcrun.workflow.forwarding import Port, forwarding
from tests.lab import eventually

MUCH = os.urandom(WINDOW) * 3


def node(sdk: Path, before: str = "") -> Command:
    """The node's end as srun starts it. before: what is printed first."""
    script = f'{before} exec "$@"'
    words = ("sh", "-c", script, "sh", sys.executable, "-I", "-S", str(sdk), "relay")
    return Command(words, {"PATH": os.environ["PATH"]})


@contextlib.contextmanager
def served(answer: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[int]:
    """A server for one connection after the other, each in a thread; gives its port."""

    def serve() -> None:
        while True:
            try:
                end, _ = server.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=talk, args=(end,)))
            threads[-1].start()

    def talk(end: socket.socket) -> None:
        with end, contextlib.suppress(OSError):
            answer(end)

    threads: list[threading.Thread] = []
    with socket.create_server((host, 0)) as server:
        accepting = threading.Thread(target=serve)
        accepting.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for thread in threads:
        thread.join()


def everything(end: socket.socket) -> bytes:
    return b"".join(iter(lambda: end.recv(1 << 16), b""))


def echo(end: socket.socket) -> None:
    """Says nothing until it has heard the end."""
    end.sendall(everything(end))


def called(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 180)


def test_much_passes_unchanged_in_both_directions_at_once(sdk: Path) -> None:
    def talk(number: int) -> None:
        with called(port.here) as end:
            sending = threading.Thread(target=lambda: [end.sendall(MUCH), end.shutdown(1)])
            sending.start()
            heard[number] = everything(end)
            sending.join()

    heard: dict[int, bytes] = {}
    with served(echo) as there, forwarding([Port(0, there)], node(sdk)) as (port,):
        talking = [threading.Thread(target=talk, args=(n,)) for n in range(4)]
        for thread in talking:
            thread.start()
        for thread in talking:
            thread.join()
    assert heard == dict.fromkeys(range(4), MUCH)


def test_one_that_does_not_read_holds_up_nobody(sdk: Path) -> None:
    with served(lambda end: end.sendall(MUCH * 20)) as flood, served(echo) as there:
        ports = [Port(0, flood), Port(0, there)]
        with forwarding(ports, node(sdk)) as given, called(given[0].here) as silent:
            assert silent.recv(1)
            with called(given[1].here) as end:
                end.sendall(b"hello")
                end.shutdown(socket.SHUT_WR)
                assert everything(end) == b"hello"


def test_a_server_that_is_not_there_hangs_up(sdk: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))  # nobody else has the port, and nobody listens yet
        with forwarding([Port(0, server.getsockname()[1])], node(sdk)) as (port,):
            for _ in range(3):
                with called(port.here) as end:
                    assert everything(end) == b""
            server.listen()
            with called(port.here) as end:
                accepted, _ = server.accept()
                with accepted:
                    accepted.sendall(b"now")
                    assert end.recv(3) == b"now"


def test_one_that_hangs_up_is_told_to_the_other(sdk: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        forwarding([Port(0, server.getsockname()[1])], node(sdk)) as (port,),
    ):
        end = called(port.here)
        accepted, _ = server.accept()
        with accepted:
            end.close()
            assert accepted.recv(1) == b""


def test_what_login_scripts_print_is_passed_over(sdk: Path) -> None:
    with (
        served(echo) as there,
        forwarding([Port(0, there)], node(sdk, "echo; echo welcome; echo not ready;")) as (port,),
        called(port.here) as end,
    ):
        end.shutdown(socket.SHUT_WR)
        assert everything(end) == b""


def test_once_the_node_is_gone_nobody_is_let_in(sdk: Path) -> None:
    gone = node(sdk)._replace(words=("sh", "-c", "echo ready; read line"))
    with forwarding([Port(0, 1)], gone) as (port,):
        with called(port.here) as end:
            assert everything(end) == b""
        eventually(lambda: refuses(port.here))


def refuses(port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError), called(port):
        return False
    return True


def test_only_this_machine_is_let_in(sdk: Path) -> None:
    with forwarding([Port(0, 1)], node(sdk)) as (port,), socket.socket() as other:
        other.bind(("127.0.0.2", port.here))  # it is free: nobody listens on all addresses


def test_a_step_that_does_not_begin(sdk: Path) -> None:
    refused = Command(("sh", "-c", "echo no such step >&2; exit 1"), {})
    with pytest.raises(SchedulerError, match="no such step"), forwarding([Port(0, 1)], refused):
        pass


def test_a_port_that_is_taken(sdk: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = Port(other.getsockname()[1], 6006)
        with pytest.raises(ConfigError, match="0:6006 takes any"), forwarding([port], node(sdk)):
            pass


@pytest.mark.parametrize(
    ("text", "port"),
    [("6006", Port(6006, 6006)), ("8080:6006", Port(8080, 6006)), ("0:80", Port(0, 80))],
)
def test_ports(text: str, port: Port) -> None:
    assert Port.parse(text) == port


@pytest.mark.parametrize("text", ["", ":", "a", "0", "1:0", "70000", "1:2:3", "8080:", "-1", "٣"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(ConfigError):
        Port.parse(text)
