"""Files that come down over SSH, by rsync: what is here already is not sent again.

Each file has its name here when it is whole, with the time that it has there. After a cut, the same
call goes on where it was.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcrun.errors import StoreError
from hpcrun.manifest import shown_size
from hpcrun.transport.rsync import FULL, Progress, failure, lines_of, rsync, run

PARTIAL = (23, 24)
"""Exit codes of rsync where some files did not come, or vanished meanwhile."""


@dataclass(frozen=True)
class Source:
    """Where files come from. name: what the user calls it. login: gives the words that log in, with
    the host at the end, once that may be done."""

    name: str
    login: Callable[[], Sequence[str]]


def fetch(
    source: Source,
    root: str,
    names: Sequence[str],
    into: Path,
    apart: Path,
    basis: Path | None = None,
    total: int = 0,
    progress: Progress | None = None,
) -> Sequence[str]:
    """Brings files of a folder there into one here, under the same names; gives what rsync says of
    those that did not come.

    names: relative. A link comes as what it leads to. apart: a folder on the same disk, where lies
    what is on its way, and what a cut has left, to go on with. basis: a folder whose files of these
    names are taken, as far as they are the same. total: bytes, for the progress. StoreError: the
    disk here is full. TransportError: the connection was lost; what has come is kept.
    """
    (apart / "cut").mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=apart) as listed:
        listed.write(b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in names))
        listed.flush()
        options = [
            *("--copy-links", "--times", "--omit-dir-times", "--executability", "--sparse"),
            *("--chmod=Du+rwx,Fu+rw", "--from0", f"--files-from={listed.name}"),
            *(f"--temp-dir={apart}", f"--partial-dir={apart / 'cut'}"),
            *([f"--copy-dest={basis.absolute()}"] if basis is not None else []),
        ]
        words = [*rsync(source.login(), *options), f"far:{root}/", f"{into}/"]
        code, said = run(words, total, progress)
    lines = lines_of(said)
    full = next((line for line in lines if FULL.search(line)), None)
    if full is not None:
        raise StoreError(
            f"there is no room in {into} for the {shown_size(total)} that come from"
            f" {source.name}: {full}",
            "free space, choose another workspace, or ask for fewer files",
        )
    if code not in (0, *PARTIAL):
        raise failure(code, said, source.name, "files came")
    return lines if code else ()


def tidy(apart: Path) -> None:
    """Removes what cuts have left, now that all has come."""
    for folder in (apart / "cut", apart):
        for name in os.listdir(folder) if folder.is_dir() else ():
            (folder / name).unlink(missing_ok=True)
        if folder.is_dir():
            folder.rmdir()
