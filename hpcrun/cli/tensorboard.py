"""tensorboard: TensorBoard over runs, those that go on included."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, say
from hpcrun.errors import HpcrunError
from hpcrun.metrics.system import system_metrics
from hpcrun.record import RunRecord
from hpcrun.store.users import login_of
from hpcrun.tensorboard.folder import RunEvents
from hpcrun.tensorboard.server import command, serving
from hpcrun.workflow.files import files_on_disk
from hpcrun.workflow.session import Session, open_session

PAUSE = 5.0
"""Seconds between two looks at runs that go on; more where a look takes long."""

SHARE = 0.05
"""Of the time, at most, is spent with looking."""


@click.command()
@click.argument("runs", nargs=-1, required=True)
@json_option
@click.pass_obj
def tensorboard(workspace: str | None, runs: tuple[str, ...], as_json: bool) -> int:
    """Show RUNS in TensorBoard, on this machine only, until Ctrl-C.

    What they logged and what their nodes did, with the event files that they wrote themselves.
    """
    command()
    session = open_session(given=workspace)
    found = list(dict.fromkeys(session.store.find(run) for run in runs))
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    cache = session.cache / "tensorboard"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        shown = [Shown(session, session.store.read(run_id, user), folder) for user, run_id in found]
        for run in shown:
            run.look()
        with serving(Path(folder)) as server:
            try:
                _tell(server.address, server.port, [run.run_id for run in shown], as_json)
                while True:
                    began = time.monotonic()
                    for run in shown:
                        run.look_again()
                    server.check()
                    time.sleep(max(PAUSE, (time.monotonic() - began) / SHARE))
            except KeyboardInterrupt:
                return 0


class Shown:
    """A run that is shown. It is read again until it has ended."""

    def __init__(self, session: Session, record: RunRecord, folder: str) -> None:
        self.run_id = record.run_id
        self._session = session
        self._user = record.user
        of = record.user if record.user != session.user else ""  # two users may have one id
        self._events = RunEvents(Path(folder, of, record.run_id), record.created)
        self._is_over = False

    def look_again(self) -> None:
        """Brings what is new, if the run goes on. What cannot be read is told."""
        if self._is_over:
            return
        try:
            self.look()
        except HpcrunError as error:
            say(f"hpcrun: {error}", err=True)
            self._is_over = not error.transient

    def look(self) -> None:
        """Brings all that there is. HpcrunError."""
        store = self._session.store
        paths = store.paths(self.run_id, self._user)
        # Read before: what it tells is then not older than that it has ended.
        is_over = self._session.is_over(self._session.record(self.run_id, self._user))
        logged = store.logged(paths)
        self._events.show({**logged.metrics, **system_metrics(logged.notes)})
        self._events.link(Path(paths.files), (file.name for file in files_on_disk(paths)))
        self._is_over = is_over


def _tell(address: str, port: int, runs: Sequence[str], as_json: bool) -> None:
    tunnel = f"ssh -N -L {port}:127.0.0.1:{port} {login_of(os.getuid())}@{os.uname().nodename}"
    if as_json:
        print_json({"address": address, "tunnel": tunnel, "runs": list(runs)})
    else:
        say(address)
        say(f"from another machine, first: {tunnel}")
        say("whoever is logged in on this machine can open it; Ctrl-C ends it")


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt
