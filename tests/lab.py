"""hpcrun as the test cluster's users have it: installed from its wheel, on the login node."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from tests.cluster import Cluster

REPOSITORY = Path(__file__).resolve().parents[1]
REQUIREMENTS = Path(__file__).with_name("requirements-cluster.txt")
PYTHON = "/usr/bin/python3"
"""The users' interpreter: the one that runs the tests may lie where they cannot read it."""

WAITING = "hpcrun: waiting for Slurm: "
"""How a line begins that any command may say on standard error: Slurm is late, as where others
compute."""


@dataclass(frozen=True)
class Lab:
    """A user's hpcrun on the cluster, with a workspace that the group shares."""

    cluster: Cluster
    venv: Path
    workspace: Path

    @property
    def python(self) -> str:
        """The Python that hpcrun and the training scripts run on."""
        return str(self.venv / "bin/python")

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of a user's shell."""
        path = f"{self.venv}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {"PATH": path, "HPCRUN_WORKSPACE": str(self.workspace), "COLUMNS": "200", **more}

    def run(
        self,
        *words: str,
        user: str = "alice",
        cwd: Path | None = None,
        timeout: float = 300,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """`hpcrun WORDS` to its end, whatever its exit code."""
        done = self.cluster.run(
            user,
            [str(self.venv / "bin/hpcrun"), *words],
            cwd=cwd,
            env=self.environment(**(env or {})),
            timeout=timeout,
            input=input,
        )
        return without_waiting(done)

    def ok(self, *words: str, **more: Any) -> str:
        """What `hpcrun WORDS` prints; it must succeed."""
        done = self.run(*words, **more)
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def json(self, *words: str, **more: Any) -> Any:
        """What `hpcrun WORDS --json` prints; it must succeed."""
        command, *rest = words
        return json.loads(self.ok(command, "--json", *rest, **more))

    def submit(self, source: Path, *words: str, **more: Any) -> str:
        """The id of a new run of the run.yaml in a folder."""
        found: str = self.json("submit", *words, cwd=source, **more)["run_id"]
        return found

    def wait(self, run_id: str, timeout: float = 240, **more: Any) -> Any:
        """The run once it has ended, as `wait --json` tells it."""
        words = ("wait", "--json", "--timeout", str(timeout), run_id)
        done = self.run(*words, timeout=timeout + 60, **more)
        assert done.returncode in (0, 20, 21), (done.stdout, done.stderr, self.ok("show", run_id))
        return json.loads(done.stdout)

    def folder(self, name: str, files: Mapping[str, str], user: str = "alice") -> Path:
        """A new folder of a user's with these files, below the user's home."""
        folder = self.cluster.home(user) / "work" / name
        uid = folder.parents[1].stat().st_uid
        shutil.rmtree(folder, ignore_errors=True)
        for path in (folder.parent, folder):
            path.mkdir(exist_ok=True)
            os.chown(path, uid, -1)
        for relative, text in files.items():
            file = folder / relative
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            os.chown(file, uid, -1)
            os.chown(file.parent, uid, -1)
        return folder


def without_waiting(
    done: subprocess.CompletedProcess[str],
) -> subprocess.CompletedProcess[str]:
    """What a command has said, but not that Slurm was late."""
    lines = done.stderr.splitlines(keepends=True)
    done.stderr = "".join(line for line in lines if not line.startswith(WAITING))
    return done


def go_on(lab: Lab, job_id: str) -> None:
    """Waits until a job was requeued for the first time, and lets it begin: Slurm would have it
    wait for as long as a credential lives."""
    look = ["squeue", "-h", "--states=all", "-j", job_id, "-O", "RestartCnt:|,State:|"]

    def is_requeued() -> bool:
        restarts, state, _ = lab.cluster.run("root", look).stdout.split("|")
        return restarts != "0" and state != "COMPLETING"

    eventually(is_requeued, 120)
    # For a second or two after its end, its nodes would refuse it. It may have begun meanwhile.
    lab.cluster.run("root", ["scontrol", "update", f"jobid={job_id}", "StartTime=now+3"])


@contextlib.contextmanager
def accounting(lab: Lab, on: bool) -> Iterator[None]:
    """The cluster with slurmdbd or without it; afterwards as before."""
    before = lab.cluster.has_accounting()
    lab.cluster.set_accounting(on)
    yield
    lab.cluster.set_accounting(before)


def make_lab(cluster: Cluster) -> Lab:
    """Installs hpcrun for the users of a cluster that is up."""
    # Two sessions would remove each other's half-made environment.
    with filelock.FileLock(cluster.cache / "lab.lock", timeout=1800):
        dependencies = _environment(cluster.cache)
    venv = _install_hpcrun(cluster, dependencies)
    workspace = cluster.shared / "history"
    if not workspace.exists():
        workspace.mkdir()
        os.chown(workspace, 0, cluster.shared.stat().st_gid)
        workspace.chmod(0o2775)
    return Lab(cluster, venv, workspace)


def _environment(cache: Path) -> Path:
    """A virtual environment with all that hpcrun and the examples need.

    It is kept between sessions; all clusters of this machine share it, and nothing changes in it.
    """
    stated = "\n".join(_dependencies()).encode() + REQUIREMENTS.read_bytes()
    version = subprocess.run([PYTHON, "-V"], capture_output=True, check=True).stdout
    venv = cache / f"dependencies-{hashlib.sha256(stated + version).hexdigest()[:12]}"
    if (venv / "complete").exists():
        (venv / "complete").touch()
        return venv
    for old in cache.glob("dependencies-*"):
        # The cluster of another checkout may be using one of today's.
        used = old / "complete"
        if not used.exists() or time.time() - used.stat().st_mtime > 86400:
            shutil.rmtree(old)
    _call(PYTHON, "-m", "venv", str(venv))
    pip = [str(venv / "bin/pip"), "install", "-q", "--disable-pip-version-check"]
    _call(*pip, *_dependencies(), "-r", str(REQUIREMENTS))
    (venv / "complete").touch()
    return venv


def _dependencies() -> list[str]:
    import configparser

    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    return config["options"]["install_requires"].split()


def _install_hpcrun(cluster: Cluster, dependencies: Path) -> Path:
    """The cluster's own environment: this checkout's wheel, on top of what it needs."""
    wheel = build_wheel(cluster.root / "wheels")
    venv = cluster.root / "venv"
    mark = venv / "installed"
    digest = hashlib.sha256(wheel.read_bytes() + bytes(dependencies)).hexdigest()
    if mark.exists() and mark.read_text() == digest:
        return venv
    shutil.rmtree(venv, ignore_errors=True)
    _call(PYTHON, "-m", "venv", "--without-pip", str(venv))
    (_site(venv) / "dependencies.pth").write_text(f"{_site(dependencies)}\n")
    pip = [str(dependencies / "bin/pip"), "--python", str(venv / "bin/python")]
    _call(*pip, "install", "-q", "--disable-pip-version-check", "--no-deps", str(wheel))
    mark.write_text(digest)
    return venv


def _site(venv: Path) -> Path:
    (site,) = (venv / "lib").glob("python3*/site-packages")
    return site


def build_wheel(folder: Path) -> Path:
    """This checkout's wheel, built from a copy: the checkout stays as it is."""
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "source"
    out = shutil.ignore_patterns("__pycache__", ".*", "build", "dist", "*.egg-info")
    source.mkdir(parents=True)
    for name in ("hpcrun", "templates", "site_configs", "examples"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=out)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    # Equal sources make equal wheels.
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def _call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, umask=0o022)
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])


def eventually(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What a condition gives once it is true.

    It is looked at more rarely the longer it takes: looks are commands, and others compute.
    """
    began = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - began
        assert waited < seconds, "it did not happen"
        time.sleep(min(max(0.1, waited / 20), 1))
    return found


@contextlib.contextmanager
def without(path: Path) -> Iterator[None]:
    """A file that is not there for a while."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)
