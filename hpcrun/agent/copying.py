"""Copying a file with its holes. Standard library only (Python 3.8+)."""

from __future__ import annotations

import errno
import os
from typing import Generator, Iterator, Tuple

BLOCK = 1 << 20

_ZEROS = bytes(BLOCK)


class SourceError(Exception):
    """The file that is copied cannot be read: its cause is an OSError."""


def copy(source: int, target: int, start: int, end: int) -> Iterator[int]:
    """Copies what an open file holds between two places; gives the bytes of each block.

    target: nothing stands in it behind the first place. Holes stay holes, and blocks of zeros
    become some where the file system does not tell. Where the source was cut meanwhile, it ends
    there. SourceError; OSError of the target.
    """
    for place, stop in extents(source, start, end):
        while place < stop:
            block = _read(source, min(BLOCK, stop - place), place)
            if not block:
                break
            if not _ZEROS.startswith(block):
                _write(target, block, place)
            place += len(block)
            yield len(block)
    os.ftruncate(target, min(end, _size(source)))


def copy_all(source: int, target: int) -> None:
    """Copies a whole file in one go. SourceError, OSError of the target."""
    for _ in copy(source, target, 0, _size(source)):
        pass


def is_same(source: int, target: int) -> Generator[int, None, bool]:
    """Whether two open files hold the same; gives the bytes of each block. As `copy` raises."""
    size = _size(source)
    if os.fstat(target).st_size != size:
        return False
    for place in range(0, size, BLOCK):
        block = _read(source, BLOCK, place)
        if block != os.pread(target, BLOCK, place):
            return False
        yield len(block)
    return True


def extents(source: int, start: int, end: int) -> Iterator[Tuple[int, int]]:
    """(begin, end) of what is no hole; all of it where the file system does not tell."""
    stop = start
    while stop < end:
        try:
            begin = os.lseek(source, stop, os.SEEK_DATA)
            stop = min(os.lseek(source, begin, os.SEEK_HOLE), end)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a hole to the end
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise SourceError from error
            begin, stop = stop, end
        yield begin, stop


def _size(source: int) -> int:
    try:
        return os.fstat(source).st_size
    except OSError as error:
        raise SourceError from error


def _read(source: int, size: int, place: int) -> bytes:
    try:
        return os.pread(source, size, place)
    except OSError as error:
        raise SourceError from error


def _write(target: int, block: bytes, place: int) -> None:
    rest = memoryview(block)
    while rest:
        count = os.pwrite(target, rest, place)
        rest, place = rest[count:], place + count
