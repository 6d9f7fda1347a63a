"""Starting a task in place of each of the command's, and collecting what they see. (Python 3.8+)"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from signal import SIGKILL, SIGTERM
from typing import List, Mapping, Optional, Sequence, Tuple

from hpcrun.agent import process
from hpcrun.agent.policy import Preflight
from hpcrun.agent.preflight.judging import Launched, Told, judge, taken
from hpcrun.agent.preflight.sight import Sight
from hpcrun.agent.process import Process
from hpcrun.agent.setting import Setting
from hpcrun.agent.witness import Witness

ADDRESS_VARIABLE = "HPCRUN_MASTER_ADDR"
PORT_VARIABLE = "HPCRUN_MASTER_PORT"

PATIENCE = 120.0
"""Seconds in which all tasks must have told."""

BEGIN = 80.0
"""Seconds in which a task's MPI must have begun: the first waits there for the last one to come."""

SHIM = os.path.join("hpcrun", "agent", "task.sh")

_SHELLS = ("sh", "bash", "env")

_INTO = ("--container-", "--environment=", "--uenv=", "--view=")
"""What srun's flags begin with that start a container: there is no Python of the agent's in it."""


def launcher_words(words: Sequence[str]) -> Tuple[str, ...]:
    """Those words of a command that start its tasks, and nothing of what a task does.

    They stand before the shim, after the last `srun` if there is one, and end where a shell begins,
    or with `env` a container: what torchrun starts on each node is one task. Empty where no
    launcher starts tasks by our shim.
    """
    places = [place for place, word in enumerate(words) if SHIM in word]
    before = list(words[: places[-1]] if places else ())
    if "srun" in before:
        before = before[len(before) - 1 - before[::-1].index("srun") :]
    ends = [place for place, word in enumerate(before) if word in _SHELLS]
    found = before[: ends[0]] if ends else ()
    return tuple(word for word in found if not word.startswith(_INTO))


def begin(
    setting: Setting, words: Sequence[str], own: Sequence[str], witness: Witness
) -> "Optional[Trial]":
    """Starts the preflight of a command; None where none is wanted, or no launcher of ours is seen.

    own: the words that start the agent. One that cannot be started is a problem, and no more.
    """
    launcher = launcher_words(words)
    if setting.preflight is None or not launcher:
        return None
    trial = Trial(setting, setting.preflight, launcher)
    try:
        trial.start(setting, (*own, "preflight"))
    except OSError as error:
        witness.problem(f"the preflight cannot be started: {error.strerror}")
        trial.end()
        return None
    return trial


class Trial:
    """One preflight. words: those that start each task."""

    def __init__(self, setting: Setting, wanted: Preflight, words: Sequence[str]) -> None:
        self._wanted = wanted
        self._nodes = setting.nodes
        self._words = words
        self._address = os.environ.get(ADDRESS_VARIABLE, "")
        self._port = int(os.environ.get(PORT_VARIABLE) or 0)
        self._door: Optional[socket.socket] = None
        self._process: Optional[Process] = None
        self._pipe = -1
        self._rest = b""
        self._told: List[Told] = []
        self._problems: List[str] = []
        self._begun = time.time()

    def start(self, setting: Setting, act: Sequence[str]) -> None:
        """Starts the tasks, unless it is known already that the command cannot run. OSError."""
        if setting.is_first:
            self._open_door()
        if self._problems:
            return
        speaks_mpi = self._wanted.python is not None
        told = {
            "python": self._wanted.python,
            "begin": BEGIN,
            "address": self._address,
            # An MPI program may have other ways than TCP.
            "port": self._port if self._door is not None and not speaks_mpi else 0,
            "folders": [setting.spool or "/tmp", setting.folder],
            "servers": _parameter_servers(os.environ),
        }
        self._pipe, writing = os.pipe()
        os.set_blocking(self._pipe, False)
        words = (*_beside(self._words), *act, json.dumps(told))
        try:
            self._process = process.start(words, setting.paths.files, stdout=writing)
        finally:
            os.close(writing)

    def _open_door(self) -> None:
        """Listens at the master's port, which must be free; the kernel answers who comes."""
        try:
            self._door = socket.create_server(("", self._port), backlog=4096)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                self._problems.append(taken(self._port, self._nodes[0], "MASTER_PORT"))

    def has_ended(self) -> bool:
        """Whether the launcher has; what its tasks have told is read."""
        ended = self._process is None or self._process.has_ended()
        self._read()
        return ended

    def end(self) -> None:
        """Ends it, if it has not by itself; the port is free again."""
        if self._door is not None:
            self._door.close()
        if self._process is not None and not self._process.has_ended():
            process.signal_group(self._process.pid, SIGTERM)
            deadline = time.monotonic() + 5
            while not self._process.has_ended() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.signal_group(self._process.pid, SIGKILL)
        self._read()
        if self._pipe >= 0:
            os.close(self._pipe)

    def problems(self) -> List[str]:
        """What is wrong, the root of it first."""
        if self._problems or self._process is None:
            return self._problems
        launched = Launched(
            launcher=os.path.basename(self._words[0]) if self._words else "",
            mpi_type=_option(self._words, "--mpi"),
            nodes=self._nodes,
            address=self._address,
            port=self._port,
            begun=self._begun,
            status=self._process.shell_status if self._process.has_ended() else None,
        )
        return judge(self._wanted, launched, self._told)

    def _read(self) -> None:
        while self._pipe >= 0:
            try:
                piece = os.read(self._pipe, 1 << 16)
            except BlockingIOError:
                return
            now = time.time()
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                sight = Sight.of(line.decode("utf-8", "replace"))
                if sight is not None:
                    self._told.append(Told(sight, now))
            if not piece:
                return


def _parameter_servers(environ: Mapping[str, str]) -> Optional[int]:
    """Of a TensorFlow cluster, whose tasks each listen; None: it is none."""
    if environ.get("HPCRUN_LAUNCHER") != "tensorflow":
        return None
    return int(environ["HPCRUN_WORLD_SIZE"]) - int(environ["HPCRUN_NNODES"])


def _beside(words: Sequence[str]) -> Tuple[str, ...]:
    """So started that the command's own step need not wait until Slurm has done with this one."""
    if words[:1] and os.path.basename(words[0]) == "srun":
        return (words[0], "--overlap", *words[1:])
    return tuple(words)


def _option(words: Sequence[str], name: str) -> str:
    return next((w.partition("=")[2] for w in words if w.startswith(f"{name}=")), "")
