"""TensorBoard as a process of ours: on the loopback, on a port that is free."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hpcrun.errors import ConfigError, HpcrunError, Problem

PATIENCE = 60.0
"""Seconds in which TensorBoard must have begun; it is read from a network file system."""

_ADDRESS = re.compile(rb"http://127\.0\.0\.1:(\d+)/")


def command() -> Sequence[str]:
    """How TensorBoard is called: that of this Python, else the one on the PATH. ConfigError."""
    if importlib.util.find_spec("tensorboard") is not None:
        return [sys.executable, "-m", "tensorboard.main"]
    found = shutil.which("tensorboard")
    if found is None:
        hint = "pip install 'hpcrun-slurm[tensorboard]', or put a tensorboard on the PATH"
        raise ConfigError(Problem("there is no TensorBoard here", hint))
    return [found]


class Server:
    """A TensorBoard that runs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process = process
        self._log = log
        self.port = port

    @property
    def address(self) -> str:
        """Where it is found, on this machine."""
        return f"http://127.0.0.1:{self.port}/"

    def check(self) -> None:
        """HpcrunError if it has ended."""
        if self._process.poll() is not None:
            raise _ended(self._process, self._log)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """TensorBoard over a folder, which ends with the block. HpcrunError: it does not begin."""
    words = [
        *command(),
        *("--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"),
        *("--reload_multifile", "true", "--window_title", "hpcrun"),
    ]
    with tempfile.NamedTemporaryFile(prefix="hpcrun-tensorboard-", suffix=".log") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield Server(process, _port(process, Path(log.name)), Path(log.name))
        finally:
            _end(process)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        told = _ADDRESS.search(log.read_bytes())
        if told is not None:
            return int(told.group(1))
        if process.poll() is not None:
            raise _ended(process, log)
        time.sleep(0.1)
    raise HpcrunError(f"TensorBoard has not begun within {PATIENCE:.0f} s", _last_words(log))


def _ended(process: subprocess.Popen[bytes], log: Path) -> HpcrunError:
    return HpcrunError(f"TensorBoard ended with status {process.returncode}", _last_words(log))


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
