"""Files that are written whole or not at all, and copies that know what they copied."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from hpcrun.errors import HpcrunError, StoreError
from hpcrun.faults import told
from hpcrun.manifest import Entry, object_name, shown

_BLOCK = 1 << 20

READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a store is read, which may be somebody else's: no link is followed, no pipe waited for."""


def blocks(source: int, kind: type[HpcrunError], reading: str) -> Iterator[bytes]:
    """What is left of an open file; an error of reading is of that kind, and says what was read."""
    with told(reading, kind):
        while block := os.read(source, _BLOCK):
            yield block


def content(entry: Entry, folder: str) -> Iterator[bytes]:
    """A stored content, block by block. StoreError: it is missing, or (at the end) damaged.

    folder: the folder of contents (`UserPaths.objects`).
    """
    stored = f"{folder}/{object_name(entry.sha256)}"
    reading = f"read the content of {shown(entry.path)}, {stored}"
    with told(reading):
        source = os.open(stored, READING)
    digest, size = hashlib.sha256(), 0
    try:
        for block in blocks(source, StoreError, reading):
            digest.update(block)
            size += len(block)
            if size > entry.size:
                break
            yield block
    finally:
        os.close(source)
    if digest.hexdigest() != entry.sha256:
        raise StoreError(
            f"the stored content of {shown(entry.path)} is damaged: {stored}",
            "remove that file; the next submission of the same source brings it again",
        )


def copy(source: Iterable[bytes], target: int) -> str:
    """Writes blocks to an open file; gives their SHA-256."""
    digest = hashlib.sha256()
    for block in source:
        digest.update(block)
        write_all(target, block)
    return digest.hexdigest()


def write_all(target: int, data: bytes) -> None:
    """Writes all of the data."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]


@contextmanager
def published(path: str) -> Iterator[int]:
    """An open file that takes its name, read-only and on the disk, when the block has ended.

    If it ends with an error, no file is left.
    """
    folder, name = os.path.split(path)
    aside = f"{folder}/.{name[:16]}.{os.urandom(6).hex()}"
    # The file system lets its maker write to a file that is read-only from the start.
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(aside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside)
        raise
