"""The files of a run: those in its folder, and the images that it logged."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from hpcrun.agent.copying import SourceError, copy_all
from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import NODES, JournalKind, RunPaths
from hpcrun.metrics.images import FOLDER as IMAGES
from hpcrun.metrics.images import content_of, images_of
from hpcrun.metrics.uploads import FOLDERS, PART, UPLOADS, place_of
from hpcrun.record import RunFile, RunRecord
from hpcrun.store import FileStore
from hpcrun.store.plain import below, open_plain
from hpcrun.workflow.inventory import Taken, compare, keep, known, take

__all__ = [
    "Copy",
    "RunFile",
    "check_files",
    "fetch_file",
    "files_of",
    "files_on_disk",
    "find_file",
    "take_inventory",
    "write_whole",
]


Named = TypeVar("Named")
Got = TypeVar("Got")


def files_of(store: FileStore, record: RunRecord) -> list[RunFile]:
    """All files of a run, sorted by name; with the digests that its record has."""
    paths = store.paths(record.run_id, record.user)
    uploads = {file.name: file.sha256 for file in record.uploads}
    taken = known(store.stored(paths)) or {}
    on_disk = [
        RunFile(name, found.st_size, _digest(found, taken.get(name)) or uploads.get(name))
        for name, found in found_on_disk(paths)
    ]
    return sorted([*on_disk, *images_of(store.notes(paths))], key=lambda file: file.name)


def _digest(found: os.stat_result, then: Taken | None) -> str | None:
    """The digest that was taken, if the file is as it was then."""
    if then is None or (found.st_size, found.st_mtime_ns) != (then.size, then.mtime):
        return None
    return then.sha256


def take_inventory(store: FileStore, record: RunRecord, limit: int | None = None) -> None:
    """Writes the sizes and digests of an ended run's files down, once; it may take long.

    limit: bytes to be read at most. StoreError.
    """
    take(store, record, found_on_disk(store.paths(record.run_id, record.user)), limit)


def check_files(store: FileStore, record: RunRecord) -> list[str]:
    """What is not as it was when the run ended, a line each. StoreError: that is not known.

    Digests that were not taken then are taken now, of files whose size and time are the same.
    """
    paths = store.paths(record.run_id, record.user)
    taken = take(store, record, found_on_disk(paths))
    found = compare(paths, taken, found_on_disk(paths))
    if found.learned and record.user == store.user:
        keep(store, paths, {**taken, **found.learned})
    return found.differences


def files_on_disk(paths: RunPaths) -> list[RunFile]:
    """The files in a run's folder, sorted by name. Symbolic links out of it are left out."""
    return sorted(RunFile(name, found.st_size) for name, found in found_on_disk(paths))


def found_on_disk(
    paths: RunPaths, barred: Callable[[str], None] = lambda folder: None
) -> Iterator[tuple[str, os.stat_result]]:
    """The names and statuses of the files in a run's folder, in no order.

    barred: hears of a folder that this user may not list.
    """
    root = Path(paths.files)
    yield from _walk(root, root, FOLDERS, barred)
    yield from _walk(root, root / UPLOADS, ("",), barred)


def closed_on_disk(paths: RunPaths) -> list[str]:
    """What in a run's folder this user may not read, sorted: files, and folders with a / behind."""
    closed: list[str] = []
    for name, _ in found_on_disk(paths, closed.append):
        if not os.access(place_of(paths.files, name), os.R_OK):
            closed.append(name)
    return sorted(closed)


def _walk(
    root: Path, above: Path, folders: tuple[str, ...], barred: Callable[[str], None]
) -> Iterator[tuple[str, os.stat_result]]:
    for folder in folders:
        if not is_inside(above / folder, root):
            continue
        for where, names in below(
            above / folder, lambda path: barred(f"{Path(path).relative_to(above)}/")
        ):
            for name in names:
                path = Path(where, name)
                found = status_of(path, root)
                if found is not None and not (name.startswith(".") and name.endswith(PART)):
                    yield path.relative_to(above).as_posix(), found


def status_of(path: Path, root: Path) -> os.stat_result | None:
    """The status of a file of the run; None of what is none, leads outside or has just vanished.

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
    return found


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path leads to no place outside of a folder."""
    return not path.is_symlink() or _is_below(path, root)


def _is_below(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())


def find_file(paths: RunPaths, name: str) -> Path:
    """The path of a file in a run's folder. StoreError if there is none that can be read."""
    root = Path(paths.files)
    path = Path(place_of(paths.files, name))
    try:
        if path.is_file() and _is_below(path, root):
            open_plain(path.resolve()).close()
            return path
        os.lstat(path)
    except PermissionError as error:
        hint = "its owner may: chmod g+rX"
        raise StoreError(f"you have no right to read {path}", hint) from error
    except OSError:
        pass  # it is not there, or has just vanished
    raise StoreError(
        f"the run has no file {name!r}", "hpcrun files RUN lists them"
    ) from FileNotFoundError(name)


def source_of(store: FileStore, paths: RunPaths, name: str) -> Path | bytes:
    """A file of a run; the bytes of a logged image, which stands in the record. StoreError."""
    if name.startswith(f"{IMAGES}/"):
        content = content_of(store.facts(paths, JournalKind.ARTIFACTS)[0], name)
        if content is not None:
            return content
    return find_file(paths, name)


def each_there(
    names: Iterable[Named], take: Callable[[Named], Got], is_over: Callable[[], bool]
) -> tuple[list[Got], list[StoreError]]:
    """What is got of each file, and what failed.

    Those that a run which goes on has removed meanwhile are left out. is_over: whether it does not.
    """
    got, failed = [], []
    for name in names:
        try:
            got.append(take(name))
        except StoreError as error:
            gone = isinstance(error.__cause__, FileNotFoundError)
            if not gone or is_over():
                failed.append(error)
    return got, failed


def of_all(failed: Sequence[StoreError], of: int) -> StoreError:
    """One error that tells of all. of: how many files there are."""
    first = failed[0]
    if len(failed) == 1:
        return first
    some = "; ".join(error.message for error in failed[:5]) + ("; …" if len(failed) > 5 else "")
    return StoreError(f"{len(failed)} of {of} files were not copied: {some}", first.hint)


def lay_out(store: FileStore, paths: RunPaths, name: str, place: Path) -> int:
    """Makes a link to a file of a run, or a logged image itself, at a place; gives its bytes."""
    source = source_of(store, paths, name)
    with told(f"write {place}"):
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            place.write_bytes(source)
        else:
            place.symlink_to(source.resolve())
        return place.stat().st_size


class Copy(NamedTuple):
    """A copy of a file of a run. size: its bytes. is_new: whether it was not there already."""

    path: Path
    size: int
    is_new: bool


def fetch_file(
    store: FileStore, paths: RunPaths, name: str, target: str | Path, sha256: str | None = None
) -> Copy:
    """Copies one file of a run, with its time, or a logged image.

    target: a folder takes it under the last part of its name: one that is there, or that a / at
    the end says to make. sha256: of the file, if it is known. What is there with the same size and
    time, and with that digest, is not copied again.
    """
    destination = Path(target)
    with told(f"copy {name} to {target}"):
        if os.fspath(target).endswith("/") or destination.is_dir():
            destination /= Path(name).name
    source = source_of(store, paths, name)
    with told(f"copy {name} to {destination}"):
        if _is_here(source, destination, sha256):
            return Copy(destination, destination.stat().st_size, False)
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
        except RecursionError as error:
            raise StoreError(f"{name} lies too deep to be copied with its folders") from error
        write_whole(source, destination)
        return Copy(destination, destination.stat().st_size, True)


def write_whole(source: Path | bytes, destination: Path) -> None:
    """Copies a file, with its holes and its time, or writes bytes. What has the name is whole, also
    where several do the same at once. OSError."""
    aside = destination.with_name(f".{os.urandom(6).hex()}{PART}")
    try:
        if isinstance(source, bytes):
            aside.write_bytes(source)
        else:
            _copy(source, aside)
        aside.rename(destination)
    finally:
        aside.unlink(missing_ok=True)


def _is_here(source: Path | bytes, copy: Path, sha256: str | None) -> bool:
    """Whether a copy is there already. OSError."""
    if copy.is_symlink() or not copy.is_file():
        return False
    if isinstance(source, bytes):
        return copy.read_bytes() == source
    there, here = source.stat(), copy.stat()
    if (there.st_size, there.st_mtime_ns) != (here.st_size, here.st_mtime_ns):
        return False
    if sha256 is None:
        return True
    with copy.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _copy(source: Path, aside: Path) -> None:
    """Copies a file with its holes and its time. OSError."""
    with open_plain(source.resolve()) as file, aside.open("wb") as copy:
        status = os.fstat(file.fileno())
        try:
            copy_all(file.fileno(), copy.fileno())
        except SourceError as error:
            raise error.__cause__ or error from error
    os.utime(aside, ns=(status.st_atime_ns, status.st_mtime_ns))
