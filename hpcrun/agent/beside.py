"""A shell or a command beside a job, in a step of its own. Standard library only (Python 3.8+).

It finds what the run's own processes on this node were given. Where memory runs out it is the first
to fall, and the run's processes come first at the CPUs.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType
from typing import Any, Dict, Iterator, List, Mapping, NoReturn, Optional, Tuple

from hpcrun.agent import setting
from hpcrun.agent.witness import say
from hpcrun.errors import HpcrunError
from hpcrun.layout import (
    ATTEMPT_VARIABLE,
    FILES_VARIABLE,
    RUN_ID_VARIABLE,
    SPOOL_VARIABLE,
    WORK_VARIABLE,
)

STEPS = "beside"
"""The file in a node's spool with the numbers of such steps, a line each."""

NOT_HERE = 255
"""The exit status where nothing could be started: of ssh, too."""

NICE = 10

_LAST_WORDS = 2.0
"""Seconds that a shell has after it was told to hang up."""

_NODE = "SLURMD_NODENAME"
_GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK")


def run(told: Mapping[str, Any]) -> int:
    """Runs a command with the run's environment, in its working folder; gives its status.

    told: run_id; attempt; rank, whose environment it is (null: the whole run's); words (none: a
    shell); term, the kind of terminal.
    """
    found = _environment(told["run_id"], told["attempt"], told["rank"])
    if found is None:
        whose = "nothing" if told["rank"] is None else f"no rank {told['rank']}"
        say(f"{whose} of run {told['run_id']} runs on {os.uname().nodename}")
        return NOT_HERE
    environ = {**found, **(_own(_GPUS) if told["rank"] is None else {})}
    environ["TERM"] = told["term"]
    words = told["words"] or _shell(environ, told["run_id"])
    _yield_to_the_run(environ)
    return _command(words, environ)


def steps(spool: Optional[str]) -> List[str]:
    """The numbers of the steps beside the job, on this node."""
    if spool is None:
        return []
    try:
        with open(os.path.join(spool, STEPS), encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def _environment(run_id: str, attempt: str, rank: Optional[int]) -> Optional[Dict[str, str]]:
    """That of the run's first process here: the agent, a node's helper, or the rank's command."""
    wanted = {RUN_ID_VARIABLE: run_id, ATTEMPT_VARIABLE: attempt}
    if rank is not None:
        wanted["RANK"] = str(rank)
    here = os.environ.get(_NODE)
    found = [
        (began, environ)
        for began, environ in _processes()
        if all(environ.get(name) == value for name, value in wanted.items())
        and environ.get(_NODE) in (here, None)  # nodes may share what stands in /proc
    ]
    return min(found, key=lambda each: each[0])[1] if found else None


def _processes() -> Iterator[Tuple[int, Dict[str, str]]]:
    """(when it began, in the kernel's ticks; what it was given) of each process of this user."""
    for name in os.listdir("/proc"):
        try:
            if not name.isdigit() or os.stat(f"/proc/{name}").st_uid != os.geteuid():
                continue
            with open(f"/proc/{name}/environ", "rb") as file:
                items = os.fsdecode(file.read()).split("\0")
            with open(f"/proc/{name}/stat", "rb") as file:
                began = int(file.read().rpartition(b") ")[2].split()[19])
        except OSError:
            continue  # it has ended, or is not ours to look at
        yield began, dict(item.split("=", 1) for item in items if "=" in item)


def _own(names: Tuple[str, ...]) -> Dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _shell(environ: Dict[str, str], run_id: str) -> List[str]:
    """A shell whose start files cannot take the run's environment away."""
    environ["PS1"] = f"[{run_id} \\h]\\$ "
    return ["bash", "--norc"]


def _yield_to_the_run(environ: Mapping[str, str]) -> None:
    """The kernel ends this first where memory runs out, and gives it the CPU last."""
    try:
        os.nice(NICE)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
        if SPOOL_VARIABLE in environ:
            with open(os.path.join(environ[SPOOL_VARIABLE], STEPS), "a", encoding="ascii") as mine:
                mine.write(os.environ.get("SLURM_STEP_ID", "") + "\n")
    except OSError:
        pass  # a courtesy


def _command(words: List[str], environ: Mapping[str, str]) -> int:
    import subprocess

    try:
        umask = setting.read(environ).umask
    except HpcrunError:
        umask = None
    if umask is not None:
        os.umask(umask)
    folders = [environ.get(name, "") for name in (WORK_VARIABLE, FILES_VARIABLE)]
    folder = next(filter(os.path.isdir, folders), "/")
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, _leave_to_the_command)
    try:
        child = subprocess.Popen(words, env={**environ, "PWD": folder}, cwd=folder)
    except OSError as error:
        say(f"cannot start {words[0]}: {error.strerror}")
        return 127 if isinstance(error, FileNotFoundError) else 126

    def hang_up(number: int, frame: Optional[FrameType]) -> NoReturn:
        """A shell that reads from a person does not heed TERM; the job would end late for it."""
        del frame
        child.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + _LAST_WORDS
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hang_up)
    status = child.wait()
    sys.stdout.flush()
    return status if status >= 0 else 128 - status


def _leave_to_the_command(number: int, frame: Optional[FrameType]) -> None:
    """Who types Ctrl-C means the command; a handler, unlike SIG_IGN, is not handed on to it."""
    del number, frame
