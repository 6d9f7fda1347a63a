"""The files of a run: outputs/, logs/ and user_logs/ under its folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import RunPaths

FOLDERS = ("outputs", "logs", "user_logs")


class RunFile(NamedTuple):
    """One file: its name (outputs/model.pt) and its size in bytes."""

    name: str
    size: int


def files_of(paths: RunPaths) -> list[RunFile]:
    """All files of a run, sorted by name. Symbolic links out of the folder are left out."""
    return sorted(_walk(Path(paths.files)))


def _walk(root: Path) -> Iterator[RunFile]:
    for folder in FOLDERS:
        if not _inside(root / folder, root):
            continue
        for where, _, names in os.walk(root / folder):
            for name in names:
                path = Path(where, name)
                if _inside(path, root) and path.is_file():
                    yield RunFile(path.relative_to(root).as_posix(), path.stat().st_size)


def _inside(path: Path, root: Path) -> bool:
    return not path.is_symlink() or _is_below(path, root)


def _is_below(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def find_file(paths: RunPaths, name: str) -> Path:
    """The path of a file of a run. StoreError if there is none of that name."""
    root = Path(paths.files)
    path = root / name
    known = Path(name).parts[:1]
    inside = bool(known) and known[0] in FOLDERS and ".." not in Path(name).parts
    if not inside or not path.is_file() or not _is_below(path, root):
        raise StoreError(f"the run has no file {name!r}", "hpcrun files RUN lists them")
    return path


def copy_file(source: Path, destination: Path) -> Path:
    """Copies one file; an existing folder as destination takes it under its own name."""
    if destination.is_dir():
        destination = destination / source.name
    with told(f"copy {source} to {destination}"):
        destination.parent.mkdir(parents=True, exist_ok=True)
        aside = destination.with_name(f".{destination.name}.part")
        shutil.copyfile(source, aside)
        aside.rename(destination)
    return destination
