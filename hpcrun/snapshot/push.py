"""Copies a scanned source folder into the store of snapshots.

Contents come first, each under its digest; the manifest comes last. Who finds a manifest finds
everything it names. Two pushers at once write the same bytes under the same names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from hpcrun.durable import sync_folder
from hpcrun.errors import SnapshotError
from hpcrun.faults import told
from hpcrun.layout import UserPaths
from hpcrun.manifest import Entry, Manifest, object_name, shown
from hpcrun.progress import counted
from hpcrun.snapshot.objects import blocks, copy, published, write_all
from hpcrun.snapshot.parallel import each

TOUCHED = 86_400
"""Seconds after which a file of the store is touched when it is wanted again."""


def push(manifest: Manifest, source: Path, paths: UserPaths) -> bool:
    """Brings the snapshot into the store; False if it was there already.

    SnapshotError: the source cannot be read, or is no longer what was scanned. StoreError: the
    store cannot be written. Killed at any moment, the snapshot is there as a whole or not.
    """
    if wanted(paths.manifest(manifest.digest)) is not None:
        return False
    root = os.path.realpath(os.fsencode(source))
    total = sum({entry.sha256: entry.size for entry in manifest.files}.values())
    with counted("snapshot to the run history", total) as tell:

        def bring(entry: Entry) -> None:
            _bring(entry, root, paths.objects)
            tell(entry.size)

        publish(manifest, paths, bring)
    return True


def publish(manifest: Manifest, paths: UserPaths, bring: Callable[[Entry], object]) -> None:
    """Brings all contents, and then the manifest. StoreError, and what `bring` raises.

    bring: makes sure that the content of a file is in the store, whose folders are there.
    """
    target = paths.manifest(manifest.digest)
    contents = {entry.sha256: entry for entry in manifest.files}
    folders = make_folders(contents, paths)
    each(bring, list(contents.values()))
    with told(f"write the snapshot {target}"):
        # All folders, not only those written to: another pusher's new names count as well.
        each(sync_folder, [*folders, paths.objects])
        with published(target) as descriptor:
            write_all(descriptor, manifest.encode())
        sync_folder(paths.snapshots)


def make_folders(contents: Iterable[str], paths: UserPaths) -> list[str]:
    """Makes the folders in which contents of these digests lie; gives them."""
    folders = sorted({f"{paths.objects}/{sha256[:2]}" for sha256 in contents})
    with told(f"make the store of snapshots {paths.objects}"):
        os.makedirs(paths.objects, exist_ok=True)
        for folder in folders:
            os.makedirs(folder, exist_ok=True)
    return folders


def _bring(entry: Entry, root: bytes, objects: str) -> None:
    """Copies one content, unless it is there."""
    target = f"{objects}/{object_name(entry.sha256)}"
    if wanted(target) == entry.size:
        return
    reading = f"read {shown(entry.path)} of the source folder"
    with told(reading, SnapshotError):
        name = os.path.join(root, entry.path.encode("utf-8", "surrogateescape"))
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        with told(f"copy {shown(entry.path)} to {target}"), published(target) as aside:
            check_content(entry, copy(blocks(source, SnapshotError, reading), aside))
    finally:
        os.close(source)


def wanted(target: str) -> int | None:
    """The bytes of a file of the store that is wanted; None if it is not there.

    An old file is touched: collecting what no run needs spares the young.
    """
    with told(f"read the store of snapshots, {target}"):
        try:
            status = os.stat(target)
            if status.st_mtime < time.time() - TOUCHED:
                os.utime(target)
        except FileNotFoundError:
            return None
    return status.st_size


def check_content(entry: Entry, sha256: str) -> None:
    """SnapshotError if a file was brought with another content than it was scanned with."""
    if sha256 != entry.sha256:
        raise SnapshotError(
            f"{shown(entry.path)} changed after it was scanned",
            "submit again, when nothing writes to the source folder",
            transient=True,
        )
