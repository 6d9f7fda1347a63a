"""Which program is called hpcrun here."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from hpcrun.workflow.finding import Finding


def command() -> Iterator[Finding]:
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
        return b"hpcrun.__main__" in found.read_bytes()[:4096]
    except OSError:
        return False
