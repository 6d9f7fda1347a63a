"""A published layer, and a run's folders and environment, for tests of the agent."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcrun.fold import fold
from hpcrun.layout import Attempt, RunPaths, journal_kind
from hpcrun.record import AttemptRecord, Fact, decode_page

RUN_ID = "digits_1700000000_0123abcd"


@dataclass(frozen=True)
class Job:
    """One attempt of a run on this node, without a scheduler."""

    root: Path
    sdk: Path
    attempt: str = "1.0"
    python: str = sys.executable

    @property
    def paths(self) -> RunPaths:
        return RunPaths(str(self.root / "record"), str(self.root / "files"))

    @property
    def record(self) -> Path:
        return self.root / "record"

    @property
    def files(self) -> Path:
        return self.root / "files"

    @property
    def spool(self) -> Path:
        return self.root / f"spool-{self.attempt}"

    @property
    def batch_log(self) -> Path:
        return Path(self.paths.batch_log(Attempt.parse(self.attempt).submission))

    @property
    def shim(self) -> tuple[str, ...]:
        """The words that start a task."""
        return ("sh", str(self.sdk / "hpcrun/agent/task.sh"))

    @property
    def agent(self) -> tuple[str, ...]:
        return (self.python, "-I", "-S", str(self.sdk))

    def make(self, **request: Any) -> Job:
        """The folders and run.json. request: more of its keys."""
        self.record.mkdir()
        Path(self.paths.user_logs).mkdir(parents=True)
        self.ask(**request)
        return self

    def ask(self, **request: Any) -> None:
        """Writes run.json."""
        whole = {
            "run_id": RUN_ID,
            "experiment": "digits",
            "user": "ada",
            "target": "local",
            "created": 1700000000.0,
            "agent": {"kill_wait_seconds": 2},
            **request,
        }
        (self.record / "run.json").write_text(json.dumps(whole))

    def again(self, attempt: str) -> Job:
        """A later attempt of the same run."""
        return replace(self, attempt=attempt)

    def environment(self, **more: str) -> dict[str, str]:
        """more: further variables; an empty text removes one."""
        foreign = ("HPCRUN_", "SLURM_", "OMPI_", "PMI_", "RANK", "WORLD_SIZE", "MASTER_")
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(foreign)},
            "HPCRUN_RUN_ID": RUN_ID,
            "HPCRUN_EXPERIMENT": "digits",
            "HPCRUN_RECORD": str(self.record),
            "HPCRUN_FILES": str(self.files),
            "HPCRUN_OUTPUT_DIRECTORY": str(self.files / "outputs"),
            "HPCRUN_ATTEMPT": self.attempt,
            "HPCRUN_SPOOL": str(self.spool),
            "HPCRUN_LAUNCHER": "plain",
            "HPCRUN_NNODES": "1",
            "HPCRUN_NODELIST": os.uname().nodename,
            "HPCRUN_NPROC_PER_NODE": "1",
            "HPCRUN_WORLD_SIZE": "1",
            "HPCRUN_MASTER_ADDR": "127.0.0.1",
            "HPCRUN_MASTER_PORT": "12345",
            **more,
        }
        return {k: v for k, v in environment.items() if v}

    def start(self, *words: str, teardown: str = "", **more: str) -> subprocess.Popen[bytes]:
        """The agent with a command, writing to the batch log. more: variables."""
        options = ["--teardown", teardown] if teardown else []
        return self.call("run", *options, "--", *words, **more)

    def call(self, *words: str, **more: str) -> subprocess.Popen[bytes]:
        """One act of the agent."""
        with self.batch_log.open("ab") as log:
            return subprocess.Popen(
                [*self.agent, *words], env=self.environment(**more), stdout=log, stderr=log
            )

    def run(self, *words: str, teardown: str = "", **more: str) -> int:
        """The agent with a command, to its end; the status."""
        return status_of(self.start(*words, teardown=teardown, **more))

    def facts(self, kind: str = "", writer: str = "") -> list[Fact]:
        """The facts in the record, of a kind, of writers whose name begins so."""
        found = []
        for path in sorted(self.record.iterdir()):
            named = journal_kind(path.name)
            if named is not None and named[0].startswith(writer):
                found += decode_page(path.read_bytes(), named[0]).facts
        return [fact for fact in found if kind in ("", fact.kind)]

    def fact(self, kind: str) -> Fact:
        """The only fact of a kind in this attempt."""
        (found,) = (f for f in self.facts(kind) if str(f.attempt) == self.attempt)
        return found

    def folded(self) -> AttemptRecord:
        """What a reader makes of the newest attempt."""
        request = json.loads((self.record / "run.json").read_text())
        return fold(request, self.facts()).attempt

    def kinds(self) -> list[str]:
        """What the agent told, in order."""
        return [fact.kind for fact in self.facts(writer="agent-")]


def status_of(process: subprocess.Popen[bytes]) -> int:
    """The shell's status of a process that is waited for."""
    code = process.wait()
    return 128 - code if code < 0 else code


def until(true: Callable[[], object]) -> None:
    """Waits for something that will be, more patiently the longer it takes."""
    began = time.monotonic()
    while not true():
        waited = time.monotonic() - began
        assert waited < 120, "waited for two minutes in vain"
        time.sleep(min(max(0.02, waited / 20), 0.5))


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(") ")[2][0] not in "ZX"


def pid_in(path: Path) -> int:
    """The pid that a command writes into a file, once it has."""
    until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def kill(pid: int) -> None:
    """A kill that nobody can refuse."""
    os.kill(pid, signal.SIGKILL)


def kill_at_once(agent: int, *others: int) -> None:
    """Kills an agent and others before it can see that one of them has ended."""
    os.kill(agent, signal.SIGSTOP)
    for pid in (*others, agent):
        kill(pid)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size; needs root."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def shells() -> Sequence[tuple[str, ...]]:
    """The POSIX shells of this machine."""
    known = (("dash",), ("bash", "--posix"), ("busybox", "sh"))
    return [words for words in known if shutil.which(words[0])]


LOG_POINTS = """
import os, sys, time
name = os.path.join(os.environ["HPCRUN_SPOOL"], "rank-0-%s-n-%d.metrics.jsonl")
out = os.open(name % (os.environ["HPCRUN_ATTEMPT"], os.getpid()), os.O_WRONLY | os.O_CREAT)
open("pid", "w").write("%d\\n" % os.getpid())
for number in range(int(sys.argv[1])):
    os.write(out, b"%08d of the points\\n" % number)
    os.write(1, b"%d\\n" % number)
    time.sleep(float(sys.argv[2]))
while sys.argv[3:] and not os.path.exists(sys.argv[3]):
    time.sleep(0.02)
"""
"""Logs so many points, with so many seconds between them, and tells each once it is written; ends
once there is a file, if one is named."""


def points(job: Job) -> bytes:
    """What the newest logging process brought into the record."""
    (path,) = job.record.glob(f"rank-0-{job.attempt}-*.metrics.jsonl")
    return path.read_bytes()


def logged(job: Job) -> int:
    """How many points were acknowledged, as the rank's own log tells."""
    log = job.files / f"user_logs/{job.attempt}/rank-0.log"
    return len(log.read_bytes().splitlines()) if log.exists() else 0
