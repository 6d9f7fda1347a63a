"""Removes versions of hpcrun that nothing uses. Standard library only; runs on the cluster.

The near side sends this text. It tells what is there, a line of JSON, reads a line that names what
may go, looks once more, and tells what has gone:

    ~/.local/share/hpcrun/<name>/      stays while it is `current`, or was within a day; while one
                                       of the user's jobs has it in its script; while a process of
                                       theirs on this host has it
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

YOUNG = 86400.0
"""Seconds for which a version stays that was current: processes on other hosts are not seen."""

END = "hpcrun-told"


def main() -> int:
    """0 once what may go has gone."""
    root = Path.home() / ".local/share/hpcrun"
    _tell([[name, _size(root / name), why] for name, why in _look(root)])
    asked = set(json.loads(sys.stdin.buffer.readline() or "[]"))
    gone = []
    for name in [name for name, why in _look(root) if name in asked and not why]:
        aside = root / f".gone-{os.getpid()}-{name}"
        with contextlib.suppress(FileNotFoundError):  # somebody else removes it
            (root / name).rename(aside)
            gone.append(name)
        shutil.rmtree(aside, ignore_errors=True)
    _tell(gone)
    return 0


def _tell(value: object) -> None:
    sys.stdout.write(f"\n{json.dumps(value)}\n{END}\n")
    sys.stdout.flush()


def _look(root: Path) -> Iterator[tuple[str, str]]:
    """Each version, or what is left of one, and why it stays; empty: it may go."""
    current = (root / "current").resolve().name
    names = sorted(path.name for path in root.glob("*") if path.is_dir() and not path.is_symlink())
    used = {**_of_processes(root, names), **_of_jobs(names)} if names else {}
    for name in names:
        mark = root / name / "complete"
        try:
            since = (mark if mark.exists() else root / name).stat().st_mtime
        except FileNotFoundError:
            continue  # it was removed while the jobs were asked for
        young = "it was the current one until less than a day ago"
        why = "it is the current one" if name == current else used.get(name, "")
        yield name, why or (young if abs(time.time() - since) < YOUNG else "")


def _of_jobs(names: list[str]) -> dict[str, str]:
    """Of those that jobs use, by which; of all, where that cannot be known."""
    unknown = "whether a job uses it is not known: "
    try:
        queued = _said(["squeue", "-h", "-u", str(os.getuid()), "-o", "%F"])
    except (OSError, subprocess.CalledProcessError) as error:
        return dict.fromkeys(names, unknown + _words(error))
    used = {}
    for job in dict.fromkeys(queued.split()):
        try:
            script = _said(["scontrol", "write", "batch_script", job, "-"])
        except (OSError, subprocess.CalledProcessError) as error:
            words = _words(error)
            if "Invalid job id" in words or "script not available" in words:
                continue  # it has ended, or it is a shell
            return dict.fromkeys(names, f"{unknown}job {job}: {words}")
        used.update({name: f"job {job} uses it" for name in names if f"/{name}/" in script})
    return used


def _of_processes(root: Path, names: list[str]) -> dict[str, str]:
    """Of those that processes of this user on this host use, by which."""
    used = {}
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        told = b""
        for part in ("cmdline", "environ", "maps"):
            try:
                told += (process / part).read_bytes()
            except OSError:  # another user's, or it has ended
                continue
        for name in names:
            if os.fsencode(root / name) + b"/" in told:
                used[name] = f"process {process.name} uses it"
    return used


def _size(folder: Path) -> int:
    size = 0
    for where, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # pip may be at work there
                size += Path(where, name).lstat().st_size
    return size


def _said(words: list[str]) -> str:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return done.stdout.decode(errors="replace")


def _words(error: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    lines = error.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"{error.cmd[0]} exited {error.returncode}"


if __name__ == "__main__":
    sys.exit(main())
