"""sbatch's flags: which of them a run may write beside hpcrun's own, and which values. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hpcrun.errors import Problem

_OWN = "remove it: hpcrun needs it for itself"

INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("--array", "--chdir", "--comment", "--error", "--export", "--export-file"),
            *("--get-user-env", "--help", "--input", "--job-name", "--open-mode", "--output"),
            *("--parsable", "--test-only", "--usage", "--version", "--wait", "--wrap"),
        ),
        _OWN,
    ),
    "--nodes": "say it in distributed_job_config, or in resources.node_count",
    **dict.fromkeys(
        ("--ntasks", "--ntasks-per-node", "--ntasks-per-gpu"), "say it in distributed_job_config"
    ),
    "--cpus-per-task": "say it in resources.cpus_per_task",
    **dict.fromkeys(
        ("--gpus", "--gpus-per-node", "--gpus-per-task", "--gpus-per-socket"),
        "say it in resources.gpus_per_node",
    ),
    **dict.fromkeys(("--mem", "--mem-per-cpu", "--mem-per-gpu"), "say it in resources.memory"),
    **{
        f"--{name}": f"say it in resources.{name}"
        for name in (
            *("account", "constraint", "exclusive", "partition", "qos", "reservation", "time"),
        )
    },
    "--signal": "say it in stop.lead",
    "--requeue": "say it in requeue.allowed",
    "--no-requeue": "say it in requeue.allowed",
    "--mail-type": "say it in mail.on",
    "--mail-user": "say it in mail.address",
}
"""Flags that hpcrun computes or needs, to what is done instead of writing them."""

LETTERS: Mapping[str, str] = {
    **{"a": "array", "A": "account", "b": "begin", "B": "extra-node-info", "c": "cpus-per-task"},
    **{"C": "constraint", "d": "dependency", "D": "chdir", "e": "error", "F": "nodefile"},
    **{"G": "gpus", "h": "help", "H": "hold", "i": "input", "J": "job-name", "k": "no-kill"},
    **{"L": "licenses", "M": "clusters", "m": "distribution", "n": "ntasks", "N": "nodes"},
    **{"o": "output", "O": "overcommit", "p": "partition", "q": "qos", "Q": "quiet"},
    **{"s": "oversubscribe", "S": "core-spec", "t": "time", "u": "usage", "v": "verbose"},
    **{"V": "version", "w": "nodelist", "W": "wait", "x": "exclude"},
}
"""sbatch's flags of one letter (22.05), to their long names."""

BARE = frozenset(
    (
        *("contiguous", "hold", "ignore-pbs", "overcommit", "oversubscribe", "quiet", "reboot"),
        *("spread-job", "use-min-nodes", "verbose"),
    )
)
"""Flags to which sbatch (22.05) allows no value."""


def refusal(name: str, value: str | None = None) -> Problem | None:
    """Why a flag beside hpcrun's own may not be written; None if it may.

    name: with or without its dashes. sbatch takes any beginning of a long flag that fits only one
    (22.05), so a beginning of a flag that hpcrun computes is refused as well.
    """
    word = name.lstrip("-")
    if word in LETTERS:
        return Problem(f"{name!r} is a flag of one letter", f"write {LETTERS[word]}")
    if not _FLAG.match(word):
        near = word.replace("_", "-").lower()
        hint = f"did you mean {near!r}?" if _FLAG.match(near) else "such as: switches, contiguous"
        return Problem(f"{name!r} is no flag of sbatch", hint)
    if word in BARE and value is not None:
        hint = f"`{word}: null`, or leave it out"
        return Problem(f"--{word} is a flag without a value, and has {value!r}", hint)
    flag = f"--{word}"
    if flag == "--gres" and "gpu" not in (value or ""):
        return None
    if flag == "--gres":
        return Problem(f"{flag}={value} asks for GPUs", INSTEAD["--gpus-per-node"])
    for own, hint in INSTEAD.items():
        if own.startswith(flag):
            what = flag if own == flag else f"{flag}, short for {own},"
            return Problem(f"{what} is hpcrun's own to write", hint)
    return None


def obstacles(text: str) -> tuple[str, ...]:
    """What in a text keeps a line of a script from holding it."""
    return tuple(
        what
        for what, pattern in (
            ("a line break or control character", _CONTROL),
            ("bytes that are not UTF-8, which accounting cannot store", _SURROGATE),
        )
        if pattern.search(text)
    )


_FLAG = re.compile(r"[a-z][a-z0-9-]+\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
