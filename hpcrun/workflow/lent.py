"""What a far command has for the disk of this machine: brought aside, then to its place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from hpcrun.errors import StoreError, TransportError
from hpcrun.faults import told
from hpcrun.progress import transfer
from hpcrun.record import RunFile
from hpcrun.transport.channel import Channel
from hpcrun.transport.fetching import Brought, Source, download
from hpcrun.transport.wire import FILE, FOLDER, NEW_FILE, NEW_FOLDER, Lend, Request
from hpcrun.turns import alone


def take(
    lent: Lend, asked: Request, channel: Channel, cache: Path, tell: Callable[[str], object]
) -> tuple[Path, Sequence[str]]:
    """Brings what a command lends to where its user wants it; gives the path, and the names of
    files that were there already.

    asked: the command: given again after a cut, it brings the rest. tell: hears of what is gone
    there meanwhile. StoreError: it cannot be written here, or something is there. TransportError:
    the connection was lost.
    """
    files = [RunFile(*file) for file in lent.files]
    for file in files:
        _check(file.name)
    target = _target(lent, files)
    is_one = lent.rule in (FILE, NEW_FILE)
    known = repr((channel.login.name, asked.workspace, asked.words, str(target.absolute())))
    own = hashlib.sha256(known.encode()).hexdigest()[:16]
    base = target if target.is_dir() and not is_one else target.parent
    aside = base / f".hpcrun-{own}.part"
    _expect_room(lent.rule, target, aside)
    with alone(cache / f"lent-{own}.lock"):
        with _told(f"write into {base}"):
            aside.mkdir(parents=True, exist_ok=True)
        what = files[0].name if len(files) == 1 else f"{len(files)} files"
        login = channel.login.name
        with transfer(f"{what} from {login}") as progress:
            source, here = Source(login, channel.another), _here(lent.rule, target, files)
            brought = download(source, lent.folder, files, aside, here, progress)
        try:
            _expect_room(lent.rule, target, aside)
        except StoreError:  # somebody else has put something there meanwhile
            shutil.rmtree(aside)
            raise
        _place(files, brought, aside, target, is_one)
    gone = brought.gone
    if gone and is_one:
        raise StoreError(f"{gone[0]} has gone there meanwhile", "hpcrun files RUN lists them")
    for name in gone:
        tell(f"{name} has gone there meanwhile")
    return target, brought.here


@contextlib.contextmanager
def _told(doing: str) -> Iterator[None]:
    """As `faults.told`, of a place that its user has named: another workspace would not help."""
    try:
        with told(doing, _NotHere):
            yield
    except _NotHere as error:
        hint = error.hint or "name another place"
        raise StoreError(error.message, hint, error.transient) from error.__cause__


class _NotHere(StoreError):
    """What cannot be written where it is wanted."""


def _check(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise TransportError(f"{name!r} is no name of a file that can be brought here")


def _target(lent: Lend, files: Sequence[RunFile]) -> Path:
    """Where it is to be; of one file, its own path."""
    target = Path(lent.target) if lent.target else Path.cwd()
    if lent.rule == FILE and (lent.target.endswith("/") or target.is_dir()):
        return target / files[0].name
    return target


def _here(rule: str, target: Path, files: Sequence[RunFile]) -> Path | None:
    """The folder where files of these names may be already."""
    if rule == FOLDER and target.is_dir():
        return target
    is_there = rule == FILE and target.is_file() and target.name == files[0].name
    return target.parent if is_there else None


def _expect_room(rule: str, target: Path, aside: Path) -> None:
    """StoreError: something is where something new is to be."""
    if rule == NEW_FILE and os.path.lexists(target):
        raise StoreError(f"there is a file {target} already", "name another one")
    if rule in (FOLDER, NEW_FOLDER) and os.path.lexists(target) and not target.is_dir():
        raise StoreError(f"{target} is no folder", "name a folder")
    if rule == NEW_FOLDER and os.path.lexists(target):
        with _told(f"write into {target}"):
            others = [name for name in os.listdir(target) if name != aside.name]
        if others:
            raise StoreError(f"{target} is not empty", "name a new folder, or an empty one")


def _place(
    files: Sequence[RunFile], brought: Brought, aside: Path, target: Path, is_one: bool
) -> None:
    """Moves what is aside to its place: each file is there whole, or as it was."""
    left = {*brought.gone, *brought.here}
    with _told(f"write {target}"):
        if not is_one and not target.exists() and target.parent == aside.parent:
            aside.rename(target)
            return
        for file in files:
            if file.name not in left:
                place = target if is_one else target / file.name
                place.parent.mkdir(parents=True, exist_ok=True)
                (aside / file.name).replace(place)
        shutil.rmtree(aside)
