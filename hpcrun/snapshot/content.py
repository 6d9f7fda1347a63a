"""Reads the files of a source folder: their digests, and what may be remembered of them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from hpcrun.manifest import Entry
from hpcrun.progress import counted
from hpcrun.snapshot.parallel import each
from hpcrun.snapshot.stat_cache import Known, settled, signature
from hpcrun.snapshot.walk import Tree, text


class Content(NamedTuple):
    """A file as it was while it was read."""

    status: os.stat_result
    sha256: str


def read_entries(
    root: bytes, tree: Tree, known: Mapping[bytes, Known], began: int
) -> tuple[list[Entry], dict[bytes, Known]]:
    """The entries of all files, and what may be known of them in the next scan.

    known: from the last scan; what has the same signature still is not opened. began: when this
    scan began, Unix time in ns. Files that cannot be read become problems of the tree.
    """
    entries = []
    settled_now = {}
    unknown = {}
    for path, status in tree.files:
        before = known.get(path)
        if before is None or before.signature != signature(status):
            unknown[path] = status.st_size
            continue
        settled_now[path] = before
        entries.append(_entry(path, Content(status, before.sha256)))
    for path, content in zip(unknown, _contents(root, unknown, tree), strict=True):
        if content is None:
            continue
        entries.append(_entry(path, content))
        if settled(content.status, began):
            settled_now[path] = Known(signature(content.status), content.sha256)
    return entries, settled_now


def _entry(path: bytes, content: Content) -> Entry:
    status = content.status
    executable = bool(status.st_mode & stat.S_IXUSR)
    return Entry(text(path), content.sha256, status.st_size, executable)


def _contents(root: bytes, sizes: Mapping[bytes, int], tree: Tree) -> list[Content | None]:
    """The contents of files; None for one that is gone, or that became a problem."""

    def content(path: bytes) -> Content | None:
        try:
            found = _read(os.path.join(root, path)) or _read(os.path.join(root, path))
            tell(sizes[path])
        except FileNotFoundError:
            return None
        except OSError as error:
            tree.refuse(path, f"cannot be read: {error.strerror}")
            return None
        if found is None:
            tree.refuse(path, "is being written: it changed twice while it was read")
        return found

    with counted(f"reading {text(os.path.basename(root))}", sum(sizes.values())) as tell:
        return each(content, list(sizes))


def _read(path: bytes) -> Content | None:
    """A file's content; None if it changed while it was read."""
    # Not to wait for ever, should a named pipe have taken the file's place.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(descriptor)
        whole = file.tell() == after.st_size and stat.S_ISREG(after.st_mode)
    return Content(after, sha256) if whole and signature(before) == signature(after) else None
