"""What a file holds besides its holes: the same pieces on every file system.

A piece begins and ends at whole grains (the last one at the file's end). A grain of nothing but
zeros is a hole, whether or not the file system stores it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from hpcrun.agent.copying import SourceError, extents
from hpcrun.store.tar import sparse_map

GRAIN = 1 << 16

_ZEROS = bytes(GRAIN)


class Survey(NamedTuple):
    """A file without its bytes. pieces: (begin, length) of what is no hole.

    sha256: of these pieces, and after them of the map, if there are holes.
    """

    size: int
    pieces: tuple[tuple[int, int], ...]
    sha256: str

    @property
    def map(self) -> bytes:
        """The map; empty if there are no holes."""
        return map_of(self.pieces, self.size)

    @property
    def stored(self) -> int:
        """The bytes of the map and of the pieces."""
        return len(self.map) + sum(length for _, length in self.pieces)


def survey(file: int) -> Survey:
    """Reads an open file. OSError."""
    size, digest = os.fstat(file).st_size, hashlib.sha256()
    pieces: list[tuple[int, int]] = []
    for place, grain in grains(file, size):
        digest.update(grain)
        begin, length = pieces[-1] if pieces else (0, 0)
        if pieces and begin + length == place:
            pieces[-1] = (begin, length + len(grain))
        else:
            pieces.append((place, len(grain)))
    found = tuple(pieces)
    digest.update(map_of(found, size))
    return Survey(size, found, digest.hexdigest())


def whole(file: int) -> Survey:
    """As `survey`, but what is zeros is no hole. OSError."""
    with os.fdopen(os.dup(file), "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256")
        size = opened.tell()
    return Survey(size, ((0, size),), digest.hexdigest())


def map_of(pieces: tuple[tuple[int, int], ...], size: int) -> bytes:
    """The map of a file; empty if it has no holes."""
    if sum(length for _, length in pieces) == size:
        return b""
    end = sum(pieces[-1]) if pieces else 0
    # GNU tar tells the size of a file that ends in a hole by a piece of nothing.
    return sparse_map(pieces if end == size else (*pieces, (size, 0)))


def grains(file: int, size: int) -> Iterator[tuple[int, bytes]]:
    """(place, bytes) of each grain that is no hole, up to that size or to the end. OSError."""
    place = 0
    try:
        for begin, stop in extents(file, 0, size):
            place = max(place, begin - begin % GRAIN)
            while place < stop:
                grain = _read(file, place, min(GRAIN, size - place))
                if not grain:
                    return
                if not _ZEROS.startswith(grain):
                    yield place, grain
                place += GRAIN
    except SourceError as error:
        raise error.__cause__ or error from error


def _read(file: int, place: int, count: int) -> bytes:
    grain = os.pread(file, count, place)
    while 0 < len(grain) < count and (
        more := os.pread(file, count - len(grain), place + len(grain))
    ):
        grain += more
    return grain
