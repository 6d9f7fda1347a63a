"""Lays a snapshot into a folder, and proves each content by its digest."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from pathlib import Path

from hpcrun.errors import SnapshotError, StoreError
from hpcrun.faults import told
from hpcrun.layout import UserPaths
from hpcrun.manifest import Entry, Link, Manifest, shown
from hpcrun.snapshot.links import Names, Way
from hpcrun.snapshot.objects import READING, content, write_all
from hpcrun.snapshot.parallel import each

MOST = 256 << 20
"""Bytes of a manifest at most: a million files."""


def read_manifest(paths: UserPaths, digest: str) -> Manifest:
    """The manifest of a snapshot in the store. StoreError if it is not there, damaged, or
    leads outside."""
    file = paths.manifest(digest)
    with told(f"read the snapshot {file}"), os.fdopen(os.open(file, READING), "rb") as opened:
        data = opened.read(MOST + 1)
    if len(data) > MOST:
        raise StoreError(f"{file} has more than {MOST} bytes")
    try:
        manifest = Manifest.decode(data)
    except SnapshotError as error:
        raise StoreError(f"{file}: {error.message}") from error
    if manifest.digest != digest:
        raise StoreError(f"{file} holds another snapshot, {manifest.digest}")
    for link in _strays(manifest):
        raise StoreError(
            f"{file}: its link {shown(link.path)} leads outside, to {shown(link.target)}"
        )
    return manifest


def _strays(manifest: Manifest) -> Iterator[Link]:
    """The links that lead outside."""
    links = manifest.links
    names = Names.of((entry.path for entry in manifest.files if links), dict(links))
    return (link for link in links if names.follow(link.path) is Way.OUTSIDE)


def restore(manifest: Manifest, objects: Path, destination: Path) -> None:
    """Lays all files and links into a new or empty folder.

    objects: the folder of contents (`UserPaths.objects`). SnapshotError: the folder is not empty,
    or cannot be written. StoreError: a content is missing or damaged. After an error the folder
    holds a part of the snapshot.
    """
    with told(f"restore a snapshot into {destination}", SnapshotError):
        os.makedirs(destination, exist_ok=True)
        with os.scandir(destination) as entries:
            if any(entries):
                raise SnapshotError(
                    f"{destination} is not empty", "name a new folder, or an empty one"
                )
        root = os.fsencode(destination)
        for folder in _folders(manifest):
            os.mkdir(_place(root, folder))
    each(lambda entry: _lay(entry, objects, root), manifest.files)
    with told(f"restore links into {destination}", SnapshotError):
        for link in manifest.links:
            os.symlink(_name(link.target), _place(root, link.path))


def _folders(manifest: Manifest) -> Iterator[str]:
    """The folders that hold entries, each after the one that holds it."""
    seen: set[str] = {""}
    for entry in manifest.entries:
        parts = posixpath.dirname(entry.path).split("/")
        for length in range(1, len(parts) + 1):
            folder = "/".join(parts[:length])
            if folder not in seen:
                seen.add(folder)
                yield folder


def _lay(entry: Entry, objects: Path, root: bytes) -> None:
    with told(f"write {shown(entry.path)}", SnapshotError):
        target = _new_file(_place(root, entry.path), 0o777 if entry.executable else 0o666)
        try:
            for block in content(entry, str(objects)):
                write_all(target, block)
        finally:
            os.close(target)


def _new_file(path: bytes, mode: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def _place(root: bytes, path: str) -> bytes:
    return os.path.join(root, _name(path))


def _name(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
