"""Examining this machine, the workspace and a target."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import hpcrun
from hpcrun.errors import HpcrunError
from hpcrun.workflow.session import Session

Grade = Literal["ok", "warning", "error"]


class Finding(NamedTuple):
    """One thing that was looked at: how it is, and what to do about it."""

    grade: Grade
    subject: str
    message: str
    cure: str = ""


def examine(session: Session, target: str | None) -> list[Finding]:
    """All findings; nothing is changed but a probe file that is removed again."""
    return [
        Finding("ok", "hpcrun", f"{hpcrun.__version__} on Python {sys.version.split()[0]}"),
        *_shadow(),
        *_workspace(session),
        *_sites(session, target),
        *_slurm(session, target),
    ]


def _shadow() -> Iterator[Finding]:
    """Another package and HPCToolkit's profiler have a command of the same name."""
    found = shutil.which("hpcrun")
    own = Path(sys.executable).parent / "hpcrun"
    if found is None:
        yield Finding(
            "warning", "command", "hpcrun is not on PATH", f"use {sys.executable} -m hpcrun"
        )
    elif not _ours(Path(found), own):
        yield Finding(
            "warning",
            "command",
            f"{found} comes first on PATH and is another program",
            "use hpcrun-slurm, or python -m hpcrun",
        )
    else:
        yield Finding("ok", "command", found)


def _ours(found: Path, own: Path) -> bool:
    if found.exists() and own.exists() and found.resolve() == own.resolve():
        return True
    try:
        return b"hpcrun.cli.main" in found.read_bytes()[:4096]
    except OSError:
        return False


def _workspace(session: Session) -> Iterator[Finding]:
    path = session.workspace
    try:
        made = path.exists()
        if made:
            session.store.prepare()
        probe = _nearest_folder(Path(session.store.own.active)) / f".doctor-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (HpcrunError, OSError) as error:
        yield Finding(
            "error", "workspace", f"{path} cannot be written: {error}", "choose another: -w FOLDER"
        )
        return
    is_writable = "is writable" if made else "can be made"
    yield Finding("ok", "workspace", f"{path} {is_writable} (from {session.origin})")
    if path.is_relative_to("/tmp"):
        yield Finding(
            "warning",
            "workspace",
            f"{path} is in /tmp, which is often private to a node and emptied",
            "choose a shared folder that is not purged",
        )


def _nearest_folder(path: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _sites(session: Session, target: str | None) -> Iterator[Finding]:
    names = [target] if target else session.assets.sites()
    for name in names:
        try:
            site = session.site(name)
        except HpcrunError as error:
            yield Finding("error", f"site {name}", str(error), "mend the site file")
            continue
        targets = ", ".join(f"{site.id}/{known}" for known in site.targets)
        yield Finding("ok", f"site {site.id}", f"targets {targets}")


def _slurm(session: Session, target: str | None) -> Iterator[Finding]:
    """Slurm's commands, and whether the controller answers. Without a target it may be absent."""
    if target is not None and not _is_slurm(session, target):
        return
    grade: Grade = "warning" if target is None else "error"
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    if missing:
        message = f"{', '.join(missing)} not on PATH: only target local can be used here"
        cure = "log in to a login node of the cluster, or load its Slurm module"
        yield Finding(grade, "Slurm", message, cure)
        return
    words = ["sbatch", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2]
        message = f"sbatch cannot be used here: {said}"
        yield Finding(grade, "Slurm", message, "log in to a login node of the cluster")
        return
    yield Finding("ok", "Slurm", done.stdout.strip())
    try:
        choice = session.choice(target or "generic-slurm")
    except HpcrunError as error:
        yield Finding("error", "adapter", str(error))
        return
    cure = "install a pyslurm of this release, or set `commands`" if choice.is_less else ""
    said = f"{choice.name}: {choice.why}"
    yield Finding("warning" if choice.is_less else "ok", "adapter", said, cure)
    try:
        jobs = choice.scheduler.jobs()
    except HpcrunError as error:
        yield Finding("error", "controller", str(error), "wait, or ask your cluster's staff")
        return
    yield Finding("ok", "controller", f"answers; it holds {len(jobs)} of your jobs")


def _is_slurm(session: Session, target: str) -> bool:
    try:
        return session.site(target).scheduler.kind == "slurm"
    except HpcrunError:
        return False  # told already
