"""Which of two adapters asks Slurm: its commands, or its library; and why."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from hpcrun.errors import SchedulerError
from hpcrun.scheduler.libslurm import NOT_INSTALLED, LibSlurm
from hpcrun.scheduler.slurm import Slurm
from hpcrun.site import Adapter


class Choice(NamedTuple):
    """An adapter that was chosen for the life of a process.

    why: in words. is_less: whether `auto` has to do without pyslurm.
    """

    scheduler: Slurm
    name: Literal["commands", "pyslurm"]
    why: str
    is_less: bool = False


def choose(
    asked: Adapter,
    client_env: Mapping[str, str] = {},
    environ: Mapping[str, str] | None = None,
    error_hints: Mapping[str, str] = {},
    accounting: bool = True,
) -> Choice:
    """The adapter that was asked for. `auto` takes pyslurm where it can be loaded and is made for
    the release of the Slurm that runs, and the commands otherwise."""
    commands = Slurm(client_env, environ, error_hints, accounting)
    if asked == "commands":
        return Choice(commands, "commands", "as configured")
    library = LibSlurm(client_env, environ, error_hints, accounting)
    if asked == "pyslurm":
        return Choice(library, "pyslurm", "as configured")
    if importlib.util.find_spec("pyslurm") is None:
        return Choice(commands, "commands", NOT_INSTALLED, is_less=True)
    try:
        pyslurm, slurm = library.version(), commands.running_version()
    except SchedulerError as error:
        return Choice(commands, "commands", error.message, is_less=True)
    if not are_of_one_release(pyslurm, slurm):
        why = f"pyslurm {pyslurm} is not made for the Slurm that runs, {slurm}"
        return Choice(commands, "commands", why, is_less=True)
    return Choice(library, "pyslurm", f"pyslurm {pyslurm} is made for the Slurm that runs, {slurm}")


def are_of_one_release(one: str, other: str) -> bool:
    """`22.5.3` of pyslurm and `22.05.8` of Slurm are."""
    return _release(one) is not None and _release(one) == _release(other)


def _release(version: str) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None
