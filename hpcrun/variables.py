"""Which environment variables a run may set: those that arrive unchanged. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hpcrun.errors import Problem

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

_NAMED = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*))")

PREFIXES = ("HPCRUN_", "SLURM_", "SRUN_")

RANKS = frozenset(
    {
        *("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
        *("MASTER_ADDR", "MASTER_PORT"),
        *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        *("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
        *("AZ_BATCH_MASTER_NODE", "AZ_BATCHAI_MPI_MASTER_NODE", "TF_CONFIG"),
    }
)
"""What each task is given by hpcrun."""

SHELLS = frozenset(
    {
        *("COMP_WORDBREAKS", "DIRSTACK", "EPOCHREALTIME", "EPOCHSECONDS", "EUID", "FUNCNAME"),
        *("GROUPS", "HISTCMD", "IFS", "LINENO", "OLDPWD", "OPTARG", "OPTERR", "OPTIND", "PPID"),
        *("PS1", "PS2", "PS4", "PWD", "RANDOM", "SECONDS", "SHELLOPTS", "SHLVL", "SRANDOM"),
        *("UID", "_"),
    }
)
"""What bash 5.2 or dash 0.5.12 keep for themselves, besides bash's own BASH…."""

SCRIPTS = frozenset(
    {
        *("again", "agent", "bind", "binds", "broadcast", "caught", "child", "claim", "close"),
        *("comma", "command", "container", "container_step", "counts", "definition", "early"),
        *("fallen", "folder", "holder", "host", "kib", "killed", "late", "left", "log", "logs"),
        *("many", "mark", "marker", "master", "mounts", "name", "names", "node", "nodes", "open"),
        *("pipe", "place", "role", "run", "servers", "sha256", "stage", "stat", "status", "step"),
        *("task", "torchrun", "value", "word", "workers"),
    }
)
"""What the batch script and the agent's task.sh call their own variables."""


HEEDED = ("SCRATCH", "PROJECT", "ACCOUNT")
"""What stands in the names of variables, of the shell that submits, which site files may name."""

_OF_JOB = ("HPCRUN_", "SLURM_JOB", "SLURM_ARRAY_", "SLURM_RESTART_")


def is_heeded(name: str) -> bool:
    """Whether a site file may name that variable of the shell that submits."""
    return name in ("HOME", "USER") or any(part in name for part in HEEDED)


def named_in(text: str) -> Sequence[str]:
    """The variables that a text names, as $NAME or ${NAME}."""
    return [one or other for one, other in _NAMED.findall(text)]


def removal_refusal(name: str) -> Problem | None:
    """Why a job cannot be without a variable; None if it can."""
    if not NAME.match(name):
        return Problem(f"{name!r} is no name for a variable")
    needed = name == "PATH" or name.startswith(_OF_JOB)
    if not needed and name not in SHELLS and not name.startswith("BASH"):
        return None
    return Problem(f"no job can be without {name}", "hpcrun's scripts and Slurm's commands read it")


def site_refusal(name: str, value: str) -> Problem | None:
    """Why a site may not set a variable to that; None if it may. It may tell Slurm's commands."""
    of_slurm = name.startswith(("SLURM_", "SRUN_")) and not name.startswith(_OF_JOB)
    return (None if of_slurm else refusal(name)) or as_it_stands(name, value)


def as_it_stands(name: str, value: str) -> Problem | None:
    """That a value names its own variable, which would not be replaced; None if it does not."""
    if name not in named_in(value):
        return None
    told = f"{name} would be {value!r} as it stands: nothing in it is replaced"
    return Problem(told, f"that is a line for a shell: export {name}={value}")


def refusal(name: str, value: str = "") -> Problem | None:
    """Why a run may not set this variable to that; None if it may."""
    if not NAME.match(name):
        message = f"{name!r} is no name for an environment variable"
        return Problem(message, "letters, digits and _ only, no digit first")
    message = f"the variable {name} is not yours to set"
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return Problem(message, f"names that begin with {prefix} are reserved")
    if name in RANKS:
        return Problem(message, "every task is given its own")
    if name in SHELLS or (name.startswith("BASH") and name != "BASH_ENV"):
        return Problem(message, "shells keep it for themselves, it would not arrive")
    if name in SCRIPTS:
        return Problem(message, "hpcrun's scripts use the name; write it in capitals")
    # Without the folders that are on it no job could start.
    return as_it_stands(name, value) if name == "PATH" else None
