"""What a command tells whoever shows it on another machine. Where nobody does, nothing happens."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hpcrun.cli import own_folder
from hpcrun.errors import TransportError
from hpcrun.transport.wire import NEW_FILE, NEW_FOLDER, Frame, Lend, Place

if TYPE_CHECKING:
    from hpcrun.record import RunFile
    from hpcrun.workflow.sent import Sent


class Near(NamedTuple):
    """Who shows this command on another machine.

    tell: sends a frame. hear: the next line that is answered. source: what that side sends. own:
    the name of a folder that the command may make; it is removed when the command has ended.
    """

    tell: Callable[[Frame], None]
    hear: Callable[[], str]
    source: Mapping[str, Any]
    own: Path


_near: Near | None = None


def begin(near: Near) -> None:
    """From here on, this process shows its command on another machine."""
    global _near
    _near = near


def is_elsewhere() -> bool:
    """Whether the user is at another machine: what they name as files is there."""
    return _near is not None


def source() -> Sent | None:
    """The source that another machine sends for this command."""
    from hpcrun.workflow.sent import Sent

    return Sent.of(_near.source if _near is not None else {})


def goes_on(words: Sequence[str], stream: int = 0, seconds: float | None = None) -> None:
    """Tells with which words to go on if the connection is lost now.

    stream: where they print what would have come next; 0: nowhere. seconds: the time left.
    """
    if _near is None:
        return
    _flush()
    _near.tell(Place([*words], stream, seconds))


def room() -> Path:
    """A new folder for what is lent."""
    assert _near is not None
    folder = _near.own / "lent"
    own_folder.make(_near.own)
    try:
        folder.mkdir()
    except OSError as error:
        raise own_folder.no_room(folder, error) from error
    return folder


class Taken(NamedTuple):
    """Where the near side has what was lent, and the names of files that it had already."""

    path: Path
    here: frozenset[str]


def lend(folder: Path, files: Iterable[RunFile], target: str, rule: str) -> Taken:
    """Has files of a folder brought to the user's machine.

    files: by their names below the folder. target, rule: as in `Lend`.
    """
    assert _near is not None
    _flush()
    _near.tell(Lend(str(folder), [list(file) for file in files], target, rule))
    answer = _near.hear()
    if not answer:
        raise TransportError("whoever wanted it is gone", transient=True)
    path, here = json.loads(answer)
    return Taken(Path(path), frozenset(here))


@contextlib.contextmanager
def written(path: Path, digests: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Where a command writes what its user wants at a path: a new file, or a new folder.

    There, or, if the user is at another machine, where it is brought from at the end. digests: the
    SHA-256 of files of the folder, by their names in it.
    """
    if _near is None:
        yield path
        return
    from hpcrun.record import RunFile
    from hpcrun.store.plain import below

    base = room()
    place = base / (path.name.replace("..", "") or "it")
    yield place
    is_folder = place.is_dir()
    root = place if is_folder else base
    files = []
    for where, names in below(root):
        for file in (Path(where, name) for name in names):
            name = file.relative_to(root).as_posix()
            files.append(RunFile(name, file.lstat().st_size, (digests or {}).get(name)))
    lend(root, files, str(path), NEW_FOLDER if is_folder else NEW_FILE)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
