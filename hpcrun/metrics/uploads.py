"""Uploading files to a run: copies in its folder on shared storage. Standard library only (3.8+).

Names in outputs/ and logs/ stand there; all other names stand under uploads/, which is no part of
the name.

A name that is taken is refused, as in Azure ML, but for what lets a script do the same again: the
same content is no news, and what an earlier attempt left gives way to this one's. A file has its
name once it is whole, and is replaced as a whole.
"""

from __future__ import annotations

import hashlib
import logging
import os
import posixpath
from typing import Any, BinaryIO, Callable, Iterator, List, Optional, Sequence, Tuple

from hpcrun.arguments import AnyPath, checked, is_path
from hpcrun.errors import StoreError
from hpcrun.metrics.recording import Recording
from hpcrun.record import RunFile
from hpcrun.rights import kept_to

FOLDERS = ("outputs", "logs", "user_logs")
"""Where a run's files stand under their own names."""

UPLOADS = "uploads"

TAKEN = ("user_logs", "images")
"""What hpcrun itself writes."""

PART = ".part"
"""Ends the hidden name of a file that is not whole yet."""

MayReplace = Callable[[str, Any], bool]
"""Whether what stands under a name may be replaced by what comes from a source."""

_BLOCK = 1 << 20

_log = logging.getLogger("hpcrun")


def _never(name: str, source: Any) -> bool:
    return False


def place_of(files: str, name: str) -> str:
    """The path of a run's file. files: the run's folder. StoreError: no name for a file."""
    parts = name.split("/")
    if not name or name != posixpath.normpath(name) or parts[0] in ("", ".", "..") or "\0" in name:
        raise StoreError(f"{name!r} is no name for a file of a run", "such as outputs/model.pt")
    return os.path.join(files, name if parts[0] in FOLDERS else os.path.join(UPLOADS, name))


def upload(files: str, name: str, source: Any, may_replace: MayReplace = _never) -> RunFile:
    """Copies a file, or a stream of bytes, into a run. StoreError, OSError of the source."""

    def replaces() -> bool:
        return may_replace(name, source)

    target = place_of(files, name)
    if name.split("/")[0] in TAKEN:
        raise StoreError(f"{name!r} cannot be uploaded: hpcrun itself writes there")
    if hasattr(source, "read"):
        with kept_to(files):
            return put(target, name, source, replaces)
    if not is_path(source):
        told = repr(source)[:40]
        raise StoreError(f"{name!r} comes from a path or a stream of bytes, not from {told}")
    with open(source, "rb") as stream:
        if os.path.exists(target) and os.path.samefile(source, target):
            return _read(name, stream)
        with kept_to(files):
            return put(target, name, stream, replaces)


def upload_all(
    files: str, names: Sequence[str], sources: Sequence[Any], may_replace: MayReplace
) -> Iterator[RunFile]:
    """Copies several; a name that stands there twice is uploaded once. StoreError, OSError."""
    if len(names) != len(sources):
        raise StoreError(f"{len(names)} names are given for {len(sources)} files")
    chosen = {name: sources[place] for place, name in enumerate(names)}
    if len(chosen) < len(names):
        _log.warning("hpcrun: %d names stand twice; the last counts", len(names) - len(chosen))
    for name, source in chosen.items():
        yield upload(files, name, source, may_replace)


def files_below(name: str, folder: str) -> List[Tuple[str, str]]:
    """(name, path) of each file of a folder that is uploaded under a name. StoreError.

    Pipes, sockets and devices, which may never end, are left out.
    """
    if not os.path.isdir(folder):
        raise StoreError(f"there is no folder {folder}")
    found = []
    for where, _, names in os.walk(folder):
        for each in names:
            path = os.path.join(where, each)
            if os.path.exists(path) and not os.path.isfile(path):
                continue
            relative = os.path.relpath(path, folder)
            found.append((posixpath.join(name, relative) if name else relative, path))
    return sorted(found)


@checked
class Uploading(Recording):
    """The part of a Run that uploads."""

    def upload_file(
        self, name: str, path_or_stream: Any, datastore_name: Optional[str] = None
    ) -> List[RunFile]:
        """Copies a file, or a stream of bytes, into the run under a name such as outputs/a.pt.

        It waits for the shared file system, and gives the file with its size and SHA-256, as the
        record has them; on silent ranks nothing happens. The same content again is no news, and
        what an earlier attempt left under the name is replaced. StoreError: this attempt has
        another file of that name (Azure ML refuses every name that is there), or it is no name;
        OSError: the file cannot be read. datastore_name is Azure ML's.
        """
        return self.upload_files([name], [path_or_stream])

    def upload_files(
        self,
        names: Sequence[str],
        paths: Sequence[Any],
        return_artifacts: bool = False,
        timeout_seconds: Optional[int] = None,
        datastore_name: Optional[str] = None,
    ) -> List[RunFile]:
        """Copies several files, one for each name; see `upload_file`.

        A name that stands there twice is uploaded once, with a warning. return_artifacts and
        timeout_seconds are Azure ML's and have no meaning here.
        """
        if self._is_silent():
            return []
        uploaded: List[RunFile] = []
        try:
            for file in upload_all(self._files_folder(), names, paths, self._may_replace):
                uploaded.append(file)
        finally:
            if uploaded:
                self._append("uploaded", {"files": [list(file) for file in uploaded]})
        return uploaded

    def upload_folder(
        self, name: str, path: AnyPath, datastore_name: Optional[str] = None
    ) -> List[RunFile]:
        """Copies all files of a folder; their names begin with the given one. See `upload_file`."""
        if self._is_silent():
            return []
        found = files_below(name, os.fspath(path))
        return self.upload_files([each for each, _ in found], [file for _, file in found])


def put(target: str, name: str, stream: BinaryIO, replaces: Callable[[], bool]) -> RunFile:
    """Copies a stream to a path. name: what the file is called. StoreError.

    replaces: whether it takes the place of another file that is there.
    """
    aside = os.path.join(os.path.dirname(target), f".{os.urandom(6).hex()}{PART}")
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        try:
            with open(aside, "xb") as copy:
                file = _read(name, stream, copy)
            if not _take_name(aside, target) and not _holds(target, file):
                if not replaces():
                    hint = "upload it under another name"
                    raise StoreError(f"the run has another file {name!r} already", hint)
                os.rename(aside, target)
        finally:
            if os.path.lexists(aside):
                os.unlink(aside)
    except OSError as error:
        raise StoreError(f"cannot upload {name!r}: {error.strerror}") from error
    return file


def _read(name: str, stream: BinaryIO, copy: Optional[BinaryIO] = None) -> RunFile:
    """A file of that name, read to its end, and what it holds written to a copy."""
    digest, size = hashlib.sha256(), 0
    for block in iter(lambda: stream.read(_BLOCK), b""):
        if not isinstance(block, (bytes, bytearray, memoryview)):
            raise StoreError(f"{name!r} comes from a stream of no bytes; open it with mode 'rb'")
        if copy is not None:
            copy.write(block)
        digest.update(block)
        size += len(block)
    return RunFile(name, size, digest.hexdigest())


def _holds(path: str, file: RunFile) -> bool:
    """Whether a path holds the same as a file."""
    if not os.path.isfile(path) or os.path.getsize(path) != file.size:
        return False
    with open(path, "rb") as there:
        return _read(file.name, there) == file


def _take_name(aside: str, target: str) -> bool:
    """Gives the whole file its name; False: it is taken. Some file systems have no links."""
    try:
        os.link(aside, target)
    except FileExistsError:
        return False
    except OSError:
        if os.path.lexists(target):
            return False
        os.rename(aside, target)
    return True
