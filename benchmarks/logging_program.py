"""The program of `benchmarks.logger` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks import logger

MLFLOW = "MLFLOW_PYTHON"
"""The variable that names an interpreter that has MLflow; it is too heavy to install along."""


class Program:
    """A logger that is ready; `begin` lets it log."""

    def __init__(self, kind: str, folder: Path, steps: int, rate: float = 0) -> None:
        self._process = subprocess.Popen(
            [_interpreter(kind), logger.__file__, kind, str(folder), str(steps), str(rate)],
            env=_environment(folder),
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

    def kill(self) -> None:
        """Ends it as a crash does."""
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
def logging(kind: str, folder: Path, steps: int, rate: float = 0) -> Iterator[Program]:
    """A logger; it is killed if something goes wrong, and ends by itself else."""
    program = Program(kind, folder, steps, rate)
    try:
        yield program
    except BaseException:
        program.kill()
        raise
    program.close()


def lacking(kind: str) -> str | None:
    """Why a logger cannot be run here; None: it can."""
    if kind not in ("mlflow", "tensorboard"):
        return None
    package = {"tensorboard": "tensorboardX"}.get(kind, kind)
    words = [_interpreter(kind), "-c", f"import {package}"]
    try:
        done = subprocess.run(words, capture_output=True, check=False)
    except OSError as error:
        return f"{words[0]}: {error.strerror}"
    hint = f"; {MLFLOW} may name an interpreter that can" if kind == "mlflow" else ""
    return f"{words[0]} cannot import {package}{hint}" if done.returncode else None


def _interpreter(kind: str) -> str:
    return os.environ.get(MLFLOW, sys.executable) if kind == "mlflow" else sys.executable


def _environment(folder: Path) -> Mapping[str, str]:
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}
    known = {name: value for name, value in os.environ.items() if not name.startswith("HPCRUN_")}
    return {**known, **quiet, "HPCRUN_WORKSPACE": str(folder), "XDG_CACHE_HOME": str(folder)}
