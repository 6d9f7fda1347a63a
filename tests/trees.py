"""What a folder holds, for tests of what is brought to and from nodes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

NASTY = "-a b'\"$HOME`x`\\*é"
"""A name and a text that nothing may touch."""


def tree(root: Path) -> dict[str, Any]:
    """Name → content, or what a link says."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        with suppress(FileNotFoundError):  # what is written aside gets its last name meanwhile
            if path.is_symlink():
                found[name] = ("link", str(path.readlink()))
            elif path.is_file():
                found[name] = path.read_bytes()
            elif not any(path.iterdir()):
                found[name] = "empty"
    return found
