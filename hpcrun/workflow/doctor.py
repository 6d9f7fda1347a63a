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
from hpcrun.workflow.session import Session, find_workspace


class Finding(NamedTuple):
    """One thing that was looked at: how it is, and what to do about it."""

    grade: Literal["ok", "warning", "error"]
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
    _, origin = find_workspace(Path.cwd(), os.environ)
    try:
        session.store.prepare()
        probe = Path(session.store.own.active, f".doctor-{os.getpid()}")
        probe.touch()
        probe.unlink()
    except (HpcrunError, OSError) as error:
        yield Finding(
            "error", "workspace", f"{path} cannot be written: {error}", "choose another: -w FOLDER"
        )
        return
    yield Finding("ok", "workspace", f"{path} is writable (from {origin})")
    if path.is_relative_to("/tmp"):
        yield Finding(
            "warning",
            "workspace",
            f"{path} is in /tmp, which is often private to a node and emptied",
            "choose a shared folder that is not purged",
        )


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
    """Slurm's commands, and whether the controller answers."""
    missing = [name for name in ("sbatch", "squeue", "scancel") if shutil.which(name) is None]
    needed = (
        target is not None and session.site(target).scheduler.kind == "slurm"
        if not _broken(session, target)
        else False
    )
    if missing:
        yield Finding(
            "error" if needed else "warning",
            "Slurm",
            f"{', '.join(missing)} not on PATH: only target local can be used here",
            "log in to a login node of the cluster, or load its Slurm module",
        )
        return
    done = subprocess.run(
        ["sbatch", "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    yield Finding("ok", "Slurm", done.stdout.strip() or done.stderr.strip())
    try:
        jobs = session.scheduler(target or "generic-slurm").jobs()
    except HpcrunError as error:
        yield Finding("error", "controller", str(error), "wait, or ask your cluster's staff")
        return
    yield Finding("ok", "controller", f"answers; it holds {len(jobs)} of your jobs")


def _broken(session: Session, target: str | None) -> bool:
    try:
        return target is not None and session.site(target) is None
    except HpcrunError:
        return True
