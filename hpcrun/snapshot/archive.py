"""Writes a snapshot as a zip file, from its stored contents."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

from hpcrun.errors import SnapshotError
from hpcrun.faults import told
from hpcrun.manifest import Entry, Link, Manifest
from hpcrun.snapshot.objects import content


def archive(manifest: Manifest, objects: Path, destination: Path) -> None:
    """Writes all files and links. Equal snapshots make equal archives.

    A link stays a link, and a name the bytes that it is: `unzip` brings both back. (Python's
    `extractall` makes of a link a file that holds its target.) objects: the folder of contents
    (`UserPaths.objects`). SnapshotError: it cannot be written. StoreError: a content is missing or
    damaged. The file takes its name when it is whole.
    """
    aside = destination.with_name(f".{destination.name}.{os.urandom(4).hex()}")
    with told(f"write {destination}", SnapshotError):
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(aside, "x") as target:
                for entry in manifest.entries:
                    _add(entry, str(objects), target)
            aside.rename(destination)
        finally:
            aside.unlink(missing_ok=True)


class _Member(zipfile.ZipInfo):
    """An entry by the bytes of its name: zipfile's own cannot write what is no UTF-8."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        name = _bytes(self.filename)
        return name, self.flag_bits | (_IS_UTF8 if _is_utf8(self.filename) else 0)


_IS_UTF8 = 0x800
"""The flag that says so of a name (APPNOTE.TXT 4.4.4, bit 11)."""


def _add(entry: Entry | Link, objects: str, target: zipfile.ZipFile) -> None:
    member = _Member(entry.path)
    member.compress_type = zipfile.ZIP_DEFLATED
    if isinstance(entry, Link):
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        target.writestr(member, _bytes(entry.target))
        return
    member.external_attr = (stat.S_IFREG | (0o755 if entry.executable else 0o644)) << 16
    member.file_size = entry.size
    with target.open(member, "w") as file:
        for block in content(entry, objects):
            file.write(block)


def _is_utf8(name: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in name)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
