"""What is known of a source folder's files from the last scan, so that unchanged ones stay closed.

One file per source folder (see `remembered`): NUL-separated fields, three for each file: path,
signature, SHA-256.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from hpcrun.remembered import Remembered

_KIND = "stat cache 1"

RACY_NS = 2_000_000_000
"""Files touched this short a time before a scan may change again without a new time: Lustre and
some NFS servers keep whole seconds, FAT two."""


class Known(NamedTuple):
    """A file as it was when it was read: its signature then, and the SHA-256 of its content."""

    signature: bytes
    sha256: str


def signature(status: os.stat_result) -> bytes:
    """What changes whenever a file's content does: size, times, inode."""
    return b"%d %d %d %d" % (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
    )


def settled(status: os.stat_result, began_ns: int) -> bool:
    """Whether any change after `began_ns` (Unix time of the scan) gives another signature.

    git's rule for its index ("racy git"): what is too young is not remembered.
    """
    return max(status.st_mtime_ns, status.st_ctime_ns) < began_ns - RACY_NS


def cache_folder(environ: Mapping[str, str]) -> Path | None:
    """$XDG_CACHE_HOME/hpcrun, or ~/.cache/hpcrun; None if neither is known."""
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"], "hpcrun")
    return Path(environ["HOME"], ".cache", "hpcrun") if environ.get("HOME") else None


def cache_file(folder: Path, source: bytes) -> Path:
    """The cache of a source folder, by its real path."""
    return folder / f"stat-{hashlib.sha256(source).hexdigest()[:32]}"


def load(file: Path) -> dict[bytes, Known]:
    """What is known, by path; nothing if there is no cache, a damaged one or another user's."""
    body = Remembered(file.parent, _KIND).recall(file.name)
    if not body:
        return {}
    fields = body.split(b"\0")
    digests = b"\0".join(fields[2::3]).decode("ascii").split("\0")
    return dict(zip(fields[0::3], map(Known, fields[1::3], digests), strict=True))


def save(file: Path, known: Mapping[bytes, Known]) -> None:
    """Remembers what is known, in place of what was."""
    Remembered(file.parent, _KIND).remember(file.name, b"\0".join(_fields(known)))


def _fields(known: Mapping[bytes, Known]) -> Iterable[bytes]:
    for path, (mark, sha256) in known.items():
        yield from (path, mark, sha256.encode("ascii"))
