"""Files that come down over SSH: what is here already is not sent again.

Files have the times that they have there, and after a cut the same call brings the rest. `fetch`
brings chosen files to where they stay, `download` a whole folder aside, proved by digests.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.manifest import shown_size
from hpcrun.record import RunFile
from hpcrun.transport.rsync import FULL, Progress, failure, lines_of, rsync, run

_SOME, _GONE = 23, 24
"""Exit codes of rsync where some files did not come, or have gone before they were read."""

_TIMES = ("--times", "--omit-dir-times", "--sparse")


class Files(Protocol):
    """Where files come from. name: what the user calls it."""

    @property
    def name(self) -> str: ...

    def fetch(
        self,
        root: str,
        names: Sequence[str],
        into: Path,
        apart: Path,
        basis: Path | None = None,
        total: int = 0,
        progress: Progress | None = None,
    ) -> Sequence[str]:
        """Brings files of a folder there into one here, under the same names; gives what is said
        of those that did not come.

        names: relative. A link comes as what it leads to. apart: a folder on the same disk, where
        lies what is on its way, and what a cut has left, to go on with. basis: a folder whose files
        of these names are taken, as far as they are the same. total: bytes, for the progress.
        StoreError: the disk here is full. TransportError: the connection was lost; what has come is
        kept.
        """


@dataclass(frozen=True)
class Source:
    """Files that rsync brings. login: gives the words that log in, with the host at the end, once
    that may be done."""

    name: str
    login: Callable[[], Sequence[str]]

    def fetch(
        self,
        root: str,
        names: Sequence[str],
        into: Path,
        apart: Path,
        basis: Path | None = None,
        total: int = 0,
        progress: Progress | None = None,
    ) -> Sequence[str]:
        """As `Files.fetch`. Each has its name here when it is whole."""
        (apart / "cut").mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=apart) as listed:
            listed.write(b"".join(n.encode("utf-8", "surrogateescape") + b"\0" for n in names))
            listed.flush()
            options = [
                *("--copy-links", "--executability", *_TIMES),
                *("--chmod=Du+rwx,Fu+rw", "--from0", f"--files-from={listed.name}"),
                *(f"--temp-dir={apart}", f"--partial-dir={apart / 'cut'}"),
                *([f"--copy-dest={basis.absolute()}"] if basis is not None else []),
            ]
            code, lines = _brought(self, options, root, into, total, progress)
        return lines if code else ()


def tidy(apart: Path) -> None:
    """Removes what cuts have left, now that all has come."""
    for folder in (apart / "cut", apart):
        for name in os.listdir(folder) if folder.is_dir() else ():
            (folder / name).unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()


class Brought(NamedTuple):
    """The names of files that were here already, and of those that have gone there meanwhile."""

    here: Sequence[str]
    gone: Sequence[str]


def download(
    source: Source,
    folder: str,
    files: Sequence[RunFile],
    aside: Path,
    here: Path | None = None,
    progress: Progress | None = None,
) -> Brought:
    """Brings into `aside` what a folder there holds, except what is here already.

    files: by their names below the folder; links that lead out of it stand for files. here: where
    they are to be in the end: what is there with the same size and time does not come, if it is
    what its digest says. StoreError: a file cannot be read there, is not what its digest says, or
    has no room here. TransportError: the connection was lost; what has come stays aside.
    """
    total = sum(file.size for file in files)
    options = ["--links", "--copy-unsafe-links", "--delete", *_TIMES]
    compared = [f"--compare-dest={here.absolute()}"] if here is not None else []
    code, lines = _brought(source, [*options, *compared], folder, aside, total, progress)
    there_already = [f for f in files if here and not _exists(aside / f.name)]
    if here and not all(_is_proved(f, here / f.name) for f in there_already):
        there_already = []
        code, lines = _brought(source, options, folder, aside, total, progress)
    if code == _SOME:
        raise StoreError(f"not all could be brought from {source.name}: {''.join(lines[:1])}")
    known = {file.name for file in there_already if here and _exists(here / file.name)}
    for file in files:
        if file.name not in known and not _is_proved(file, aside / file.name):
            _refuse(file, aside / file.name)
    gone = [f.name for f in files if f.name not in known and not _exists(aside / f.name)]
    return Brought(sorted(known), gone)


def _brought(
    source: Source,
    options: Iterable[str],
    root: str,
    into: Path,
    total: int,
    progress: Progress | None,
) -> tuple[int, Sequence[str]]:
    """rsync's exit code where all or some have come, and what it has said."""
    words = [*rsync(source.login(), *options), f"far:{root}/", f"{into}/"]
    code, said = run(words, total, progress)
    lines = lines_of(said)
    full = next((line for line in lines if FULL.search(line)), None)
    if full is not None:
        raise StoreError(
            f"there is no room here for {shown_size(total)} that come from {source.name}: {full}",
            "free space, or ask for fewer files: what has come is kept, and the rest is brought"
            " then",
        )
    if code not in (0, _SOME, _GONE):
        raise failure(code, said, source.name, f"{shown_size(total)} were brought")
    return code, lines


def _exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _is_proved(file: RunFile, copy: Path) -> bool:
    """Whether a copy is what the record says, if that says it."""
    return file.sha256 is None or not copy.is_file() or file.sha256 == _digest(copy)


def _digest(path: Path) -> str:
    with told(f"read {path}"), path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _refuse(file: RunFile, copy: Path) -> None:
    digest = _digest(copy)
    with told(f"remove {copy}"):
        copy.unlink()
    raise StoreError(
        f"{file.name} is not what the record says: its SHA-256 is {digest[:12]}… and was"
        f" {str(file.sha256)[:12]}…",
        "`hpcrun files --check RUN` tells what has changed there",
    )
