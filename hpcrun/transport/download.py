"""Bringing files here from a login node, by rsync: aside first, and proved by their digests.

After a cut, the same once more brings the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from hpcrun.errors import HpcrunError, StoreError
from hpcrun.faults import told
from hpcrun.manifest import shown_size
from hpcrun.record import RunFile
from hpcrun.transport.rsync import FULL, Progress, failure, lines_of, rsync, run


def download(
    name: str,
    ssh: Sequence[str],
    folder: str,
    files: Sequence[RunFile],
    aside: Path,
    progress: Progress | None = None,
) -> list[str]:
    """Makes `aside` what a folder there is; gives the names of files that are gone meanwhile.

    name: what the user calls the other machine. ssh: the words that log in, with the host at the
    end. files: by their names below the folder; links that lead out of it stand for files.
    StoreError: a file cannot be read there, is not what its digest says, or has no room here.
    TransportError: the connection was lost; what has come stays aside for the next time.
    """
    total = sum(file.size for file in files)
    options = ("--links", "--copy-unsafe-links", "--times", "--omit-dir-times", "--sparse")
    words = rsync(ssh, *options, "--delete")
    code, said = run([*words, f"far:{folder}/", f"{aside}/"], total, progress)
    if code not in (0, _GONE):
        raise _failure(code, said, total, name)
    for file in files:
        _prove(file, aside / file.name)
    return [file.name for file in files if not _is_there(aside / file.name)]


_GONE = 24
"""The exit code of rsync where files have gone before they were read."""


def _is_there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _prove(file: RunFile, copy: Path) -> None:
    if file.sha256 is None or not copy.is_file():
        return
    with told(f"read {copy}"), copy.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != file.sha256:
        with told(f"remove {copy}"):
            copy.unlink()
        raise StoreError(
            f"{file.name} is not what the record says: its SHA-256 is {digest[:12]}… and was"
            f" {file.sha256[:12]}…",
            "`hpcrun files --check RUN` tells what has changed there",
        )


def _failure(code: int, said: str, total: int, name: str) -> HpcrunError:
    lines = lines_of(said)
    first = next((line for line in lines if FULL.search(line)), None)
    if first is not None:
        hint = "free space here: what has come is kept, and the rest is brought then"
        return StoreError(f"there is no room here for {shown_size(total)}: {first}", hint)
    if code == 23:
        return StoreError(f"not all could be brought from {name}: {lines[0] if lines else said}")
    return failure(code, said, name, f"{shown_size(total)} were brought")
