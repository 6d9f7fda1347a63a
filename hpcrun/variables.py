"""Which environment variables a run may set: those that arrive unchanged. Pure."""

from __future__ import annotations

import re

from hpcrun.errors import Problem

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

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


def refusal(name: str) -> Problem | None:
    """Why a run may not set this variable; None if it may."""
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
    return None
