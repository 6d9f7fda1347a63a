"""The program of `benchmarks.logger` in a process of its own."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks import logger

PEERS = "PEERS_PYTHON"
"""The variable that names an interpreter with the peers; they are too heavy to install along."""

HEAVY = ("mlflow", "wandb", "trackio")


class Program:
    """A logger that is ready; `begin` lets it log."""

    def __init__(
        self,
        kind: str,
        folder: Path,
        steps: int,
        rate: float = 0,
        counter: Path | None = None,
    ) -> None:
        words = [interpreter(kind), logger.__file__, kind, str(folder), str(steps), str(rate)]
        self._counter = counter
        self._process = subprocess.Popen(
            words + ([str(counter)] if counter is not None else []),
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_ready(self) -> str:
        """The run's id. RuntimeError if it cannot log."""
        return self._line().split()[1]

    def begin(self) -> None:
        """Lets it log."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def seconds(self) -> float:
        """How long all calls took; waits for them. RuntimeError if one raised an error."""
        return float(self._line())

    @property
    def returned(self) -> int:
        """How many calls have returned so far."""
        assert self._counter is not None
        try:
            (count,) = struct.unpack("=q", self._counter.read_bytes())
        except (FileNotFoundError, struct.error):
            return 0
        return int(count)

    @property
    def is_alive(self) -> bool:
        """Whether it goes on."""
        return self._process.poll() is None

    def signal_kill(self) -> None:
        """Ends it as a crash does, as soon as the kernel can."""
        self._process.kill()

    def kill(self) -> None:
        """Ends it as a crash does, and waits for that."""
        self._process.kill()
        self._process.communicate()

    def close(self) -> None:
        """Lets it end as a program does."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, told = self._process.communicate()
            raise RuntimeError((told.strip().splitlines() or ["it ended without a word"])[-1])
        return line


@contextmanager
def logging(
    kind: str, folder: Path, steps: int, rate: float = 0, counter: Path | None = None
) -> Iterator[Program]:
    """A logger; it is killed if something goes wrong, and ends by itself else. counter: a file that
    tells how many calls have returned."""
    program = Program(kind, folder, steps, rate, counter)
    try:
        yield program
    except BaseException:
        program.kill()
        raise
    program.close()


def lacking(kind: str) -> str | None:
    """Why a logger cannot be run here; None: it can."""
    if kind not in (*HEAVY, "tensorboard"):
        return None
    package = {"tensorboard": "tensorboardX"}.get(kind, kind)
    words = [interpreter(kind), "-c", f"import {package}"]
    try:
        done = subprocess.run(words, capture_output=True, check=False)
    except OSError as error:
        return f"{words[0]}: {error.strerror}"
    hint = f"; {PEERS} may name an interpreter that can" if kind in HEAVY else ""
    return f"{words[0]} cannot import {package}{hint}" if done.returncode else None


def interpreter(kind: str) -> str:
    """Which Python has it."""
    return os.environ.get(PEERS, sys.executable) if kind in HEAVY else sys.executable


def environment(folder: Path) -> Mapping[str, str]:
    """The variables of a logger: what it keeps, it keeps in the folder, and it calls nobody."""
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
        "HF_HUB_OFFLINE": "1",
        "TRACKIO_DIR": f"{folder}/trackio",
    }
    known = {name: value for name, value in os.environ.items() if not name.startswith("HPCRUN_")}
    return {**known, **quiet, "HPCRUN_WORKSPACE": str(folder), "XDG_CACHE_HOME": str(folder)}
