"""shell: beside a running job."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

import click

from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, say
from hpcrun.errors import SchedulerError
from hpcrun.ports import Command
from hpcrun.state import State
from hpcrun.store.users import login_of
from hpcrun.workflow.forwarding import LOOPBACK, Port, forwarding
from hpcrun.workflow.session import open_session
from hpcrun.workflow.shell import Beside, beside


@click.command()
@click.argument("run")
@click.argument("words", nargs=-1, metavar="[-- COMMAND…]")
@click.option("--node", metavar="NODE", help="A node's name, or its number from 0; default: 0.")
@click.option("--rank", type=int, metavar="RANK", help="With this rank's variables, on its node.")
@click.option(
    "-L",
    "--forward",
    multiple=True,
    metavar="[HERE:]PORT",
    help="Meanwhile a port of the node is this port of this machine.",
)
@json_option
@click.pass_obj
def shell(
    workspace: str | None,
    run: str,
    words: tuple[str, ...],
    node: str | None,
    rank: int | None,
    forward: tuple[str, ...],
    as_json: bool,
) -> int:
    """Open a shell beside a running job, or run COMMAND there.

    It has the run's environment and begins in its working folder. The exit code is the command's.
    """
    ports = [Port.parse(text) for text in forward]
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    place = beside(session, session.record(run_id, user, not_older_than=0), node, rank)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    command = place.shell(words, terminal, os.environ.get("TERM", "dumb"))
    if as_json:
        print_json({"run_id": run_id, "node": place.node, "command": list(command.words)})
        return 0
    with contextlib.ExitStack() as stack:
        if ports:
            given = stack.enter_context(forwarding(ports, place.relay()))
            _tell_ports(given, place.node)
        status = _run(command)
    if status:
        _tell_end(place)
    return status


def _tell_ports(ports: Sequence[Port], node: str) -> None:
    for here, there in ports:
        say(f"hpcrun: {LOOPBACK}:{here} is port {there} of {node}", err=True)
    tunnels = " ".join(f"-L {here}:{LOOPBACK}:{here}" for here, _ in ports)
    host = f"{login_of(os.getuid())}@{os.uname().nodename}"
    say(f"hpcrun: from another machine, first: ssh -N {tunnels} {host}", err=True)
    say("hpcrun: whoever is logged in on this machine can open it", err=True)


def _run(command: Command) -> int:
    """Runs it to its end; gives its status, as a shell would. Ctrl-C is the command's own."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        started.send_signal(number)

    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        started = subprocess.Popen(command.words, env=command.environ)
    except OSError as error:
        raise SchedulerError(f"{command.words[0]} cannot be run: {error.strerror}") from error
    with started:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, pass_on)
        status = started.wait()
    signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status


def _tell_end(place: Beside) -> None:
    """Where it may be the run's end that ended it."""
    record = place.session.record(place.record.run_id)
    if record.state is not State.RUNNING:
        say(f"hpcrun: run {record.run_id} is {record.state}", err=True)
