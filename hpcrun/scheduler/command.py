"""One of Slurm's commands, run to its end; and what its failure means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hpcrun.errors import SchedulerError

if TYPE_CHECKING:
    from subprocess import Popen

QUIET = 2.0
"""Seconds for which it is waited without a word."""


class Answer(NamedTuple):
    """What a command said. status: its exit code, or -n when signal n ended it."""

    status: int
    output: str
    error: str

    @property
    def said(self) -> str:
        """Its complaint in one line, without the command's own prefix."""
        lines = (line.strip() for line in (self.error or self.output).splitlines())
        said = "; ".join(_without_prefix(line) for line in lines if line)
        if self.status < 0:
            return "; ".join(filter(None, (said, f"killed by signal {-self.status}")))
        return said or f"exit code {self.status}"


class Late(Exception):
    """The command had not ended in time, and was killed."""


class Missing(Exception):
    """The command is not on PATH, or cannot be started."""


def run(words: Sequence[str], environ: Mapping[str, str], timeout: float, name: str = "") -> Answer:
    """Runs a command; it reads nothing. Late, or Missing. timeout: seconds. name: for people."""
    import subprocess

    name = name or words[0]

    try:
        process = subprocess.Popen(
            words,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise Missing(f"{name} cannot be run: {error.strerror}") from error
    with process:
        try:
            output, said = _heard(process, name, timeout)
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise Late(f"{name} did not answer within {timeout:.0f} s") from error
        except BaseException:
            process.kill()
            raise
    return Answer(process.returncode, output, said)


def _heard(process: Popen[str], name: str, timeout: float) -> tuple[str, str]:
    """What a command says. subprocess.TimeoutExpired. timeout: seconds."""
    import subprocess

    quiet = min(QUIET, timeout)
    try:
        return process.communicate(timeout=quiet)
    except subprocess.TimeoutExpired:
        say_waiting(f"{name} has not answered yet, and is given {timeout:.0f} s")
    return process.communicate(timeout=timeout - quiet)


def say_waiting(why: str) -> None:
    """Tells who looks on, on standard error, that and why nothing happens."""
    import logging

    logging.getLogger("hpcrun").warning("hpcrun: waiting for Slurm: %s", why)


def ask(words: Sequence[str], environ: Mapping[str, str], timeout: float, name: str = "") -> Answer:
    """Runs a command that changes nothing; SchedulerError where it gives no answer at all."""
    try:
        return run(words, environ, timeout, name)
    except Late as error:
        raise SchedulerError(str(error), BUSY, transient=True) from error
    except Missing as error:
        raise SchedulerError(str(error), NO_SLURM) from error


def failure(command: str, answer: Answer) -> SchedulerError:
    """The error behind a command that failed, in its own words."""
    transient = answer.status < 0 or passes(answer.said)
    return SchedulerError(f"{command}: {answer.said}", BUSY if transient else "", transient)


def passes(said: str) -> bool:
    """Whether these words tell of a trouble that passes by itself."""
    return any(words in said for words in _PASSING)


BUSY = "the scheduler is busy or away: try again in a minute"
NO_SLURM = "log in to a login node of the cluster, or load its Slurm module"

_PASSING = (
    "Unable to contact",
    "Unable to establish configuration source",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "Connection forced closed",
    "Communication connection failure",
    "Communication shutdown failure",
    "Message send failure",
    "Message receive failure",
    "Protocol authentication error",
    "Rate limit exceeded",
    "Slurm backup controller in standby mode",
    "Resource temporarily unavailable",
    "No route to host",
    "Network is unreachable",
    "Broken pipe",
    "Temporary failure in name resolution",
    "Problem talking to the database",
    "Problem talking to database",
    "can't be reached now",
)


def _without_prefix(line: str) -> str:
    """`sbatch: error: what` is `what`."""
    for prefix in ("sbatch: ", "squeue: ", "scancel: ", "scontrol: ", "sacct: "):
        line = line.removeprefix(prefix)
    return line.removeprefix("error: ").removeprefix("fatal: ")
