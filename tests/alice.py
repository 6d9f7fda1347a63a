"""alice: an ordinary user on the login node of the test cluster, whose Python has this hpcrun."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

import hpcrun
from tests.cluster import Cluster
from tests.cluster.layout import PATH

PRELUDE = """
import json, os, signal, subprocess, sys, time
from pathlib import Path, PurePosixPath
from hpcrun.errors import OutcomeUnknown, SchedulerError
from hpcrun.ports import JobId, Submission
from hpcrun.scheduler.adapters import choose
from hpcrun.scheduler.shared import shared_jobs
from hpcrun.scheduler.slurm import Slurm

slurm = choose(os.environ["ADAPTER"]).scheduler

def submission(script, name="job"):
    folder = PurePosixPath(os.getcwd())
    return Submission(PurePosixPath(script), name, folder, folder / "log")

def told(act, *arguments):
    try:
        return act(*arguments)
    except SchedulerError as error:
        kind = type(error).__name__
        return {"error": kind, **{k: getattr(error, k) for k in ("message", "hint", "transient")}}

def tell(value):
    print(json.dumps(value, default=vars))
"""


PYSLURM = "HPCRUN_PYSLURM"
"""Names a folder with a pyslurm that the users' Python can import; nobody has to have one."""


@dataclass(frozen=True)
class Alice:
    """A user on the login node; her Python finds this hpcrun. folder: hers, on all hosts.

    adapter: how her hpcrun asks Slurm.
    """

    cluster: Cluster
    code: Path
    folder: Path
    adapter: str = "commands"

    def words(self, body: str, *arguments: object, env: Mapping[str, str] = {}) -> list[str]:
        """The words that run a piece of Python as alice; it may `tell` one value."""
        python = ["/usr/bin/python3", "-c", PRELUDE + body, *map(str, arguments)]
        path = ":".join(filter(None, (str(self.code), os.environ.get(PYSLURM))))
        variables = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "ADAPTER": self.adapter}
        variables |= env
        return self.cluster.words("alice", python, cwd=self.folder, env=variables)

    def python(self, body: str, *arguments: object, env: Mapping[str, str] = {}) -> Any:
        """What a piece of Python tells."""
        words = self.words(body, *arguments, env=env)
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def command(self, *words: str, user: str = "alice") -> str:
        done = self.cluster.run(user, words, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def script(self, name: str, body: str, *directives: str) -> Path:
        path = self.folder / name
        lines = (f"#SBATCH {line}\n" for line in ("--mem=50", *directives))
        path.write_text(f"#!/bin/bash\n{''.join(lines)}{body}\n")
        return path

    def submit(self, script: Path, env: Mapping[str, str] = {}) -> Any:
        return self.python("tell(told(slurm.submit, submission(sys.argv[1])))", script, env=env)

    def sbatch(self, *words: str) -> str:
        return self.command("sbatch", "--parsable", *words)

    def jobs(self) -> Any:
        return self.python("tell(told(slurm.jobs))")

    def find(self, name: str) -> Any:
        return self.python("tell(told(slurm.find, sys.argv[1]))", name)

    def lives(self, job_id: str, env: Mapping[str, str] = {}) -> Any:
        return self.python("tell(told(slurm.lives, JobId(sys.argv[1])))", job_id, env=env)

    def word(self, job_id: str, *states: str) -> Any:
        """The word on a job once it is in one of these states."""
        return until(lambda: self.lives(job_id)[-1], lambda w: w["state"] in states)

    def canceled(self, job_id: str) -> Any:
        """The word on a job that was canceled, once it tells by whom: that is in the records, which
        come a moment after the controller's word."""
        return until(lambda: self.lives(job_id)[-1], lambda w: w["by"] is not None)

    def recorded(self, job_id: str) -> Any:
        """The records' own word on a job, once they tell how it ended."""
        blind = wrappers(self, scontrol="echo 'Invalid job id specified' >&2; exit 1")
        lives = until(lambda: self.lives(job_id, blind), lambda w: bool(w and w[-1]["cause"]))
        return lives[-1]


def until(look: Callable[[], Any], good: Callable[[Any], bool], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if good(seen):
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)


@contextmanager
def code_for_all(cluster: Cluster) -> Iterator[Path]:
    """A copy of hpcrun that alice can read: a clone may lie where she cannot."""
    code = cluster.shared / f"code-{os.getpid()}"
    for package in (hpcrun, filelock):
        source = Path(package.__file__ or "").parent
        copied = code / source.name
        shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["/usr/bin/python3", "-m", "compileall", "-q", code], check=True)
    subprocess.run(["chmod", "-R", "a+rX", code], check=True)
    yield code
    shutil.rmtree(code)


@contextmanager
def at_work(cluster: Cluster, code: Path, adapter: str = "commands") -> Iterator[Alice]:
    """Alice in a new folder; the jobs that she starts there end with it."""
    folder = cluster.shared / f"alice-{time.time_ns()}"
    cluster.run("alice", ["mkdir", str(folder)])
    yield Alice(cluster, code, folder, adapter)
    jobs = cluster.run("alice", ["squeue", "--me", "-h", "-O", "JobID:|,WorkDir:|"]).stdout
    own = [line.split("|")[0] for line in jobs.splitlines() if str(folder) in line]
    if own:
        cluster.run("alice", ["scancel", *own])
    shutil.rmtree(folder, ignore_errors=True)


def wrappers(alice: Alice, **bodies: str) -> Mapping[str, str]:
    """The PATH of a site that puts its own commands before Slurm's."""
    folder = alice.folder / f"bin-{time.time_ns()}"
    folder.mkdir()
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{PATH}"}
