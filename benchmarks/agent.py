"""What the agent and its keeper take while a run on this machine is quiet, by /proc."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.row import Row
from tests.lab import eventually

MEMORY_AIM = 25.0
CPU_AIM = 0.5
WARM_UP = 5.0
"""Seconds after the start that do not count."""


class Usage(NamedTuple):
    """A process so far. resident: MB. cpu: seconds. calls: reads and writes."""

    resident: float
    cpu: float
    calls: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        process = Path("/proc", str(pid))
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        io = dict(line.split(":", 1) for line in (process / "io").read_text().splitlines())
        nanoseconds = (process / "schedstat").read_text().split()[0]
        return cls(
            int(status["VmRSS"].split()[0]) / 1024,
            int(nanoseconds) / 1e9,
            int(io["syscr"]) + int(io["syscw"]),
        )


def rows(seconds: float) -> Iterator[Row]:
    """Resident memory, CPU and calls on files of agent and keeper."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "HPCRUN_WORKSPACE": f"{folder}/history", "XDG_CACHE_HOME": folder}
        pid, run_id = _started(Path(folder, "source"), seconds, env)
        idle = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", f"import time; time.sleep({3 * seconds + 60})"]
        )
        try:
            processes = {"agent": pid, "keeper": _keeper_of(pid), "idle": idle.pid}
            time.sleep(WARM_UP)
            before = {name: Usage.of(process) for name, process in processes.items()}
            time.sleep(seconds)
            after = {name: Usage.of(process) for name, process in processes.items()}
            traced = _file_calls([processes["agent"], processes["keeper"]], seconds)
        finally:
            idle.kill()
            idle.wait()
            _hpcrun(["cancel", run_id], env)
            _hpcrun(["wait", run_id], env)
    floor = after["idle"].resident
    for name in ("agent", "keeper"):
        yield _memory(name, after[name].resident, floor)
    cpu = sum(after[name].cpu - before[name].cpu for name in ("agent", "keeper"))
    calls = sum(after[name].calls - before[name].calls for name in ("agent", "keeper"))
    percent = 100 * cpu / seconds
    yield Row(
        f"agent and keeper: CPU, quiet for {seconds:g} s",
        f"{percent:.2f} % of a core",
        "-",
        "-",
        f"< {CPU_AIM:g} %",
        percent < CPU_AIM,
    )
    yield _each_minute("reads and writes", calls, seconds)
    if traced is None:
        yield Row.skipped("agent and keeper: calls on files, quiet", "there is no strace")
    else:
        yield _each_minute("calls on files, stat and listing too", traced, seconds)


def _memory(name: str, resident: float, floor: float) -> Row:
    return Row(
        f"{name}: resident memory, against an idle python",
        f"{resident:.1f} MB",
        f"{floor:.1f} MB",
        f"{resident / floor:.2f}×",
        f"< {MEMORY_AIM:g} MB",
        resident < MEMORY_AIM,
    )


def _each_minute(what: str, count: int, seconds: float) -> Row:
    minute = f"{60 * count / seconds:.0f} a minute"
    return Row(f"agent and keeper: {what}, quiet", minute, "-", "-", "-", None)


def _file_calls(pids: Sequence[int], seconds: float) -> int | None:
    """The system calls that name or use a file; None if nothing here can count them."""
    if shutil.which("strace") is None:
        return None
    which = [word for pid in pids for word in ("-p", str(pid))]
    words = ["timeout", "--signal=INT", f"{seconds:g}", "strace", "-q", "-e", "trace=%file,%desc"]
    done = subprocess.run([*words, *which], capture_output=True, text=True, check=False)
    calls = re.findall(r"^(?:\[pid +\d+\] )?(?!p?select|strace)(\w+)\(", done.stderr, re.MULTILINE)
    return len(calls)


def _started(source: Path, seconds: float, env: dict[str, str]) -> tuple[int, str]:
    """(the agent's pid, the run's id) of a run that does nothing for long enough."""
    source.mkdir()
    (source / "run.yaml").write_text(f"command: [sleep, '{3 * seconds + 60:g}']\n")
    submitted = json.loads(_hpcrun(["submit", "--json", "-f", str(source / "run.yaml")], env))
    record = Path(submitted["record"])

    def agent() -> int | None:
        facts = [
            json.loads(line[9:]) for path in record.glob("agent-*.jsonl") for line in path.open()
        ]
        running = any(fact["k"] == "running" for fact in facts)
        pids = [fact["d"]["pid"] for fact in facts if fact["k"] == "started"]
        return pids[-1] if running and pids else None

    return eventually(agent), submitted["run_id"]


def _keeper_of(agent: int) -> int:
    """The agent's child that is a fork of it."""
    command = Path(f"/proc/{agent}/cmdline").read_bytes()
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    (keeper,) = (int(c) for c in children if Path(f"/proc/{c}/cmdline").read_bytes() == command)
    return keeper


def _hpcrun(words: Sequence[str], env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hpcrun", *words],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 21):
        raise RuntimeError(done.stderr)
    return done.stdout
