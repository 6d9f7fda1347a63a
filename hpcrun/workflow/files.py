"""The files of a run: those in its folder, and the images that it logged."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from hpcrun.agent.copying import SourceError, copy_all
from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import NODES, RunPaths
from hpcrun.metrics.images import FOLDER as IMAGES
from hpcrun.metrics.images import content_of, images_of
from hpcrun.metrics.uploads import FOLDERS, PART, UPLOADS, place_of
from hpcrun.record import RunFile, RunRecord
from hpcrun.store import FileStore
from hpcrun.store.plain import open_plain

__all__ = ["RunFile", "fetch_file", "files_of", "files_on_disk", "find_file"]


def files_of(store: FileStore, record: RunRecord) -> list[RunFile]:
    """All files of a run, sorted by name; with the digests that its record has."""
    paths = store.paths(record.run_id, record.user)
    logged, _ = store.facts(paths, metrics=True)
    digests = {file.name: file.sha256 for file in record.uploads}
    on_disk = [file._replace(sha256=digests.get(file.name)) for file in files_on_disk(paths)]
    return sorted([*on_disk, *images_of(logged)], key=lambda file: file.name)


def files_on_disk(paths: RunPaths) -> list[RunFile]:
    """The files in a run's folder, sorted by name. Symbolic links out of it are left out."""
    root = Path(paths.files)
    return sorted([*_walk(root, root, FOLDERS), *_walk(root, root / UPLOADS, ("",))])


def _walk(root: Path, above: Path, folders: tuple[str, ...]) -> Iterator[RunFile]:
    for folder in folders:
        if not _inside(above / folder, root):
            continue
        for where, _, names in os.walk(above / folder):
            for name in names:
                path = Path(where, name)
                size = _size(path, root)
                if size is not None and not (name.startswith(".") and name.endswith(PART)):
                    yield RunFile(path.relative_to(above).as_posix(), size)


def _size(path: Path, root: Path) -> int | None:
    """The bytes of a file of the run; None of what is none, leads outside or has just vanished.

    What stands apart for a node and has a second link is seen under its own name already.
    """
    try:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            if not _is_below(path, root):
                return None
            found = path.stat()
        if not stat.S_ISREG(found.st_mode) or (found.st_nlink > 1 and NODES in path.parts):
            return None
    except (OSError, RuntimeError):  # RuntimeError: links in a circle (Python 3.11, 3.12)
        return None
    return found.st_size


def _inside(path: Path, root: Path) -> bool:
    return not path.is_symlink() or _is_below(path, root)


def _is_below(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def find_file(paths: RunPaths, name: str) -> Path:
    """The path of a file in a run's folder. StoreError if there is none of that name."""
    root = Path(paths.files)
    path = Path(place_of(paths.files, name))
    if not path.is_file() or not _is_below(path, root):
        raise StoreError(f"the run has no file {name!r}", "hpcrun files RUN lists them")
    return path


def fetch_file(store: FileStore, paths: RunPaths, name: str, destination: Path) -> Path:
    """Copies one file of a run, or a logged image; gives the copy's path.

    destination: an existing folder takes it under the last part of its name.
    """
    if destination.is_dir():
        destination = destination / Path(name).name
    content = None
    if name.startswith(f"{IMAGES}/"):
        content = content_of(store.facts(paths, metrics=None)[0], name)
    source = find_file(paths, name) if content is None else None
    with told(f"copy {name} to {destination}"):
        destination.parent.mkdir(parents=True, exist_ok=True)
        aside = destination.with_name(f".{destination.name}.part")
        if source is not None:
            _copy(source, aside)
        else:
            aside.write_bytes(content or b"")
        aside.rename(destination)
    return destination


def _copy(source: Path, aside: Path) -> None:
    """Copies a file with its holes. OSError."""
    with open_plain(source.resolve()) as file, aside.open("wb") as copy:
        try:
            copy_all(file.fileno(), copy.fileno())
        except SourceError as error:
            raise error.__cause__ or error from error
