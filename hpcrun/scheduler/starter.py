"""Starts a job's process in a session of its own. A program: it is run by path, not imported.

It reads one JSON object (words, env, folder, log, host, variable) and prints `started <job id>`
once the job's program runs, or a line `failed <why>`. As a program it may fork, whatever threads
hpcrun has; the job's own process tells its name before it becomes the script.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn


def main() -> int:
    """Starts the job; 0 if it runs."""
    told = json.load(sys.stdin)
    answer, failure = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(answer)
        _become(told, failure)
    os.close(failure)
    # A good exec closes the pipe; what then stands in it is the job's id alone.
    with os.fdopen(answer, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    sys.stdout.write(said)
    return 0 if said.startswith("started") and "\n" not in said else 1


def _become(told: Mapping[str, Any], failure: int) -> NoReturn:
    """The job's process: a leader of its own session, without terminal, with default signals."""
    try:
        os.setsid()
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir(told["folder"])
        log = os.open(told["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        ticks = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()[19]
        job_id = f"{told['host']}:{os.getpid()}:{ticks}"
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.write(failure, f"started {job_id}".encode())
        os.execve(told["words"][0], told["words"], {**told["env"], told["variable"]: job_id})
    except OSError as error:
        name = error.filename or told["words"][0]
        os.write(failure, f"\nfailed {name}: {error.strerror}".encode())
    finally:
        os._exit(127)


if __name__ == "__main__":
    raise SystemExit(main())
