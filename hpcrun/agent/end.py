"""How an attempt's command ended. Standard library only (Python 3.8+)."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

from hpcrun.agent.process import Process
from hpcrun.agent.witness import say


class End(NamedTuple):
    """How a command ended: by an exit code or a signal, and why.

    interrupted: whether only the scheduler knows why. message: the whole story in one sentence,
    where what is seen does not tell it.
    """

    exit_code: Optional[int]
    signal: Optional[int]
    cause: str
    interrupted: bool = False
    evidence: Tuple[str, ...] = ()
    message: str = ""

    @property
    def status(self) -> int:
        """The status to end with: the command's own, 128 + n for signal n."""
        return 128 + (self.signal or 0) if self.exit_code is None else self.exit_code

    def data(self) -> Dict[str, Any]:
        """As an `ended` fact tells it."""
        told = {**self._asdict(), "evidence": list(self.evidence)}
        if not self.message:
            del told["message"]
        return told


def of_command(command: Process, interrupted: bool) -> End:
    """The end of a command that has ended by itself, or by a signal from outside."""
    code, number = command.exit_code, command.signal
    cause = "completed" if code == 0 else "exit_code" if code is not None else "signal"
    return End(code, None if number is None else int(number), cause, interrupted)


def interrupted(number: int) -> End:
    """The end of a command that was not started, since a signal asked for the end before."""
    return End(None, int(number), "signal", interrupted=True)


def not_launched(problems: Sequence[str], words: Sequence[str]) -> End:
    """The end of a command that was not started. problems: why, in sentences, the root first.

    words: the last ones of its launcher.
    """
    for problem in problems:
        say(f"preflight: {problem}")
    message = f"preflight: {problems[0]}"
    return End(1, None, "launch_failed", evidence=(*problems[1:], *words), message=message)


def without_data(problems: Sequence[str]) -> End:
    """The end of a command that was not started, since a node has not the run's data."""
    for problem in problems:
        say(problem)
    more = tuple(problems[1:])
    return End(1, None, "launch_failed", evidence=more, message=f"data of the run: {problems[0]}")


def launch_failed(status: int, message: str) -> End:
    """The end of a command that could not be started."""
    say(message)
    return End(status, None, "launch_failed", evidence=(message,))
