"""The git facts of a source folder, under Azure ML's names.

git runs beside the scan; it may take no lock, ask no question, and never be the reason that a
submission fails: without git, a repository or an answer in time there are no facts.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 10.0
"""Seconds from the start after which git is not waited for."""

_LEAST_WAIT = 1.0  # what has long been printed must still be read

_STATUS = ("status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--", ".")
_REMOTE = ("ls-remote", "--get-url")

_NAMES = {
    "REPOSITORY_URI": ("azureml.git.repository_uri", "mlflow.source.git.repoURL"),
    "BRANCH": ("azureml.git.branch", "mlflow.source.git.branch"),
    "COMMIT": ("azureml.git.commit", "mlflow.source.git.commit"),
    "DIRTY": ("azureml.git.dirty",),
    "BUILD_ID": ("azureml.git.build_id",),
    "BUILD_URI": ("azureml.git.build_uri",),
}
"""The end of the variable that overrides a fact, and the properties that tell it."""

_PREFIXES = ("HPCRUN_GIT_", "AZUREML_GIT_")
_REPOSITORY_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")

_URL = re.compile(r"(?P<scheme>[^/?#@]+://)(?:(?P<user>[^/?#]*)@)?(?P<rest>[^?#]*)")


@dataclass(frozen=True)
class GitFacts:
    """git at work on a source folder; ask for `properties` once, when the rest is done."""

    environ: Mapping[str, str]
    status: subprocess.Popen[bytes] | None
    remote: subprocess.Popen[bytes] | None
    deadline: float

    @classmethod
    def start(
        cls, source: Path, environ: Mapping[str, str] = os.environ, timeout: float = TIMEOUT
    ) -> GitFacts:
        """Starts git on a source folder. environ: for git, and for the overrides."""
        status = _git(_STATUS, source, environ) if _in_repository(source) else None
        remote = _git(_REMOTE, source, environ) if status is not None else None
        return cls(environ, status, remote, time.monotonic() + timeout)

    def properties(self) -> dict[str, str]:
        """The properties of the run: what git said, and before it what the environment says."""
        facts = parse_status(_output(self.status, self.deadline))
        address = _output(self.remote, self.deadline)
        if facts:
            facts |= parse_remote(address)
        return {
            name: scrubbed(value) if fact.endswith("_URI") else value
            for fact, value in (facts | overrides(self.environ)).items()
            for name in _NAMES[fact]
        }

    def close(self) -> None:
        """Ends what still runs; needed only where `properties` is not asked for."""
        for process in (self.status, self.remote):
            if process is not None:
                _end(process)

    def __enter__(self) -> GitFacts:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def git_properties(source: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The git facts of a source folder as properties; {} if it is in no repository."""
    return GitFacts.start(source, environ).properties()


def overrides(environ: Mapping[str, str]) -> dict[str, str]:
    """What the environment says in place of git; HPCRUN_GIT_… stands before AZUREML_GIT_…."""
    found = {}
    for fact in _NAMES:
        values = [environ[prefix + fact] for prefix in _PREFIXES if environ.get(prefix + fact)]
        if values:
            found[fact] = values[0]
    return found


def parse_status(output: bytes) -> dict[str, str]:
    """Commit, branch and dirtiness in the output of `git status --porcelain=v2 --branch -z`.

    No commit before the first one, no branch while HEAD is detached, dirty only if it is.
    """
    facts = {}
    for line in output.decode("utf-8", "replace").split("\0"):
        if line.startswith("# branch.oid "):
            facts["COMMIT"] = line.removeprefix("# branch.oid ")
        elif line.startswith("# branch.head "):
            facts["BRANCH"] = line.removeprefix("# branch.head ")
        elif line and not line.startswith("# "):
            facts["DIRTY"] = "True"
    nothing = {"COMMIT": "(initial)", "BRANCH": "(detached)"}
    return {fact: value for fact, value in facts.items() if nothing.get(fact) != value}


def parse_remote(output: bytes) -> dict[str, str]:
    """The address in the output of `git ls-remote --get-url`; a remote's bare name is none."""
    address = output.decode("utf-8", "replace").removesuffix("\n")
    return {"REPOSITORY_URI": address} if re.search(r"[:/]", address) else {}


def scrubbed(address: str) -> str:
    """An address without what may be secret: password, token, query. A user of ssh stays."""
    match = _URL.match(address)
    if match is None:
        return address
    user = (match["user"] or "").partition(":")[0]
    stays = user and "ssh" in match["scheme"]
    return match["scheme"] + (f"{user}@" if stays else "") + match["rest"]


def _in_repository(source: Path) -> bool:
    """Whether git could find a repository; asking it costs two processes."""
    real = Path(os.path.realpath(source))
    return any(os.path.lexists(folder / ".git") for folder in (real, *real.parents))


def _git(
    words: tuple[str, ...], source: Path, environ: Mapping[str, str]
) -> subprocess.Popen[bytes] | None:
    """git on a folder; None if it cannot be started."""
    env = {name: value for name, value in environ.items() if name not in _REPOSITORY_VARIABLES}
    env |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.Popen(
            # A monitor of the file system would be a daemon that holds our pipe open.
            ["git", "-c", "core.fsmonitor=false", *words],
            cwd=source,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None


def _output(process: subprocess.Popen[bytes] | None, deadline: float) -> bytes:
    """What a command has printed; nothing if it failed or is late."""
    if process is None:
        return b""
    try:
        output, _ = process.communicate(timeout=max(_LEAST_WAIT, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        _end(process)
        return b""
    return output if process.returncode == 0 else b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills a command. One that hangs in a dead file system cannot end, and is not waited for."""
    process.kill()
    if process.stdout is not None:
        process.stdout.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_LEAST_WAIT)
