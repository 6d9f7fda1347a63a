"""Uploading files to a run: copies in its folder on shared storage. Standard library only (3.8+).

Names in outputs/ and logs/ stand there; all other names stand under uploads/, which is no part of
the name. A name that is taken is refused, as in Azure ML.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import posixpath
from typing import Any, BinaryIO, List, Optional, Sequence, Tuple

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

_BLOCK = 1 << 20

_log = logging.getLogger("hpcrun")


def place_of(files: str, name: str) -> str:
    """The path of a run's file. files: the run's folder. StoreError: no name for a file."""
    parts = name.split("/")
    if not name or name != posixpath.normpath(name) or parts[0] in ("", "..") or "\0" in name:
        raise StoreError(f"{name!r} is no name for a file of a run", "such as outputs/model.pt")
    return os.path.join(files, name if parts[0] in FOLDERS else os.path.join(UPLOADS, name))


def upload(files: str, name: str, source: Any) -> RunFile:
    """Copies a file, or a stream of bytes, into a run. StoreError, OSError of the source."""
    target = place_of(files, name)
    if name.split("/")[0] in TAKEN:
        raise StoreError(f"{name!r} cannot be uploaded: hpcrun itself writes there")
    if hasattr(source, "read"):
        with kept_to(files):
            return put(target, name, source)
    path = os.fspath(source)
    with open(path, "rb") as stream:
        if os.path.exists(target) and os.path.samefile(path, target):
            return _there(name, stream)
        with kept_to(files):
            return put(target, name, stream)


def upload_all(files: str, names: Sequence[str], sources: Sequence[Any]) -> List[RunFile]:
    """Copies several; a name that stands there twice is uploaded once. StoreError, OSError."""
    if len(names) != len(sources):
        raise StoreError(f"{len(names)} names are given for {len(sources)} files")
    chosen = {name: sources[place] for place, name in enumerate(names)}
    if len(chosen) < len(names):
        _log.warning("hpcrun: %d names stand twice; the last counts", len(names) - len(chosen))
    return [upload(files, name, source) for name, source in chosen.items()]


def files_below(name: str, folder: str) -> List[Tuple[str, str]]:
    """(name, path) of each file of a folder that is uploaded under a name. StoreError."""
    if not os.path.isdir(folder):
        raise StoreError(f"there is no folder {folder}")
    found = []
    for where, _, names in os.walk(folder):
        for each in names:
            path = os.path.join(where, each)
            relative = os.path.relpath(path, folder)
            found.append((posixpath.join(name, relative) if name else relative, path))
    return sorted(found)


class Uploading(Recording):
    """The part of a Run that uploads."""

    def upload_file(
        self, name: str, path_or_stream: Any, datastore_name: Optional[str] = None
    ) -> List[RunFile]:
        """Copies a file, or a stream of bytes, into the run under a name such as outputs/a.pt.

        It waits for the shared file system, and gives the file with its size and SHA-256, as the
        record has them; on silent ranks nothing happens. StoreError: the name is taken, or is
        none; OSError: the file cannot be read. datastore_name is Azure ML's.
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
        uploaded = upload_all(self._files_folder(), names, paths)
        self._append("uploaded", {"files": [list(file) for file in uploaded]})
        return uploaded

    def upload_folder(
        self, name: str, path: Any, datastore_name: Optional[str] = None
    ) -> List[RunFile]:
        """Copies all files of a folder; their names begin with the given one. See `upload_file`."""
        if self._is_silent():
            return []
        found = files_below(name, os.fspath(path))
        return self.upload_files([each for each, _ in found], [file for _, file in found])


def _there(name: str, stream: BinaryIO) -> RunFile:
    """A file that lies where it would be copied to: a job's own ./outputs."""
    digest, size = hashlib.sha256(), 0
    for block in iter(lambda: stream.read(_BLOCK), b""):
        digest.update(block)
        size += len(block)
    return RunFile(name, size, digest.hexdigest())


def put(target: str, name: str, stream: BinaryIO) -> RunFile:
    """Copies a stream to a path that is not taken. name: what the file is called. StoreError."""
    aside = os.path.join(os.path.dirname(target), f".{os.urandom(6).hex()}{PART}")
    digest, size = hashlib.sha256(), 0
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        try:
            with open(aside, "xb") as copy:
                for block in iter(lambda: stream.read(_BLOCK), b""):
                    copy.write(block)
                    digest.update(block)
                    size += len(block)
            _name(aside, target)
        finally:
            if os.path.lexists(aside):
                os.unlink(aside)
    except FileExistsError as error:
        hint = "upload it under another name"
        raise StoreError(f"the run has a file {name!r} already", hint) from error
    except OSError as error:
        raise StoreError(f"cannot upload {name!r}: {error.strerror}") from error
    return RunFile(name, size, digest.hexdigest())


def _name(aside: str, target: str) -> None:
    """Gives the whole file its name, unless that is taken. Some file systems have no links."""
    try:
        os.link(aside, target)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(aside, target)
