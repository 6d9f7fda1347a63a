"""Files that are given as answers over an open connection: small ones, and those that only grow.

Of a file that is here already only the rest comes. `give` is the far half, `Given` the near one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from hpcrun.errors import ConfigError, Problem, StoreError, TransportError
from hpcrun.faults import told
from hpcrun.store.plain import open_plain
from hpcrun.transport.rsync import Progress

MOST = 16 << 20
"""Bytes of all files that one answer gives."""

END = 1 << 16
"""Bytes before the place where a file goes on that must be the same on both sides."""


class Begun(NamedTuple):
    """What is there of a file already. size: bytes. end: SHA-256 in hex of their last ones."""

    name: str
    size: int
    end: str


class Part(NamedTuple):
    """What is given of a file. begin: where that stands in it. size, mtime: of the whole file, in
    bytes and nanoseconds. said: why nothing is given."""

    name: str
    begin: int
    size: int
    mtime: int
    said: str
    data: bytes


def question(root: str, files: Sequence[Begun]) -> str:
    """What is asked, as JSON."""
    return json.dumps([root, files])


def give(asked: str) -> Iterator[bytes]:
    """Answers a question: of each file a line of JSON, and as many bytes as that says. What there
    is no room for in this answer is left out. ConfigError: it is no question."""
    try:
        root, files = json.loads(asked)
        wanted = [(Path(root, name), Begun(str(name), int(size), end)) for name, size, end in files]
    except (ValueError, TypeError) as error:
        raise ConfigError(Problem(f"standard input names no files: {error}")) from error
    room = MOST
    for path, begun in wanted:
        if room <= 0:
            return
        part = _part(path, begun, room)
        room -= len(part.data) + END  # what is small costs something, too
        yield json.dumps([*part[:-1], len(part.data)]).encode() + b"\n"
        yield part.data


def _part(path: Path, begun: Begun, room: int) -> Part:
    try:
        with open_plain(path.resolve()) as file:
            found = os.fstat(file.fileno())
            begin = begun.size if begun.size <= found.st_size else 0
            begin = begin if _end(file, begin) == begun.end else 0
            file.seek(begin)
            data = file.read(min(room, found.st_size - begin))
            return Part(begun.name, begin, found.st_size, found.st_mtime_ns, "", data)
    except (OSError, RuntimeError, StoreError) as error:
        return Part(begun.name, 0, 0, 0, f"{path}: {error}", b"")


def _end(file: BinaryIO, size: int) -> str:
    file.seek(max(0, size - END))
    return hashlib.sha256(file.read(min(size, END))).hexdigest()


@dataclass(frozen=True)
class Given:
    """Where files come from that are asked for. ask: the output of a command there, by its words
    and its standard input."""

    name: str
    ask: Callable[[Sequence[str], str], bytes]

    def fetch(
        self,
        root: str,
        names: Sequence[str],
        into: Path,
        apart: Path,
        basis: Path | None = None,
        total: int = 0,
        progress: Progress | None = None,
    ) -> Sequence[str]:
        """As `Source.fetch`."""
        said, done = [], 0
        ends: dict[str, int] = {}
        waiting = [*names]
        with told(f"write into {into}"):
            apart.mkdir(parents=True, exist_ok=True)
            while waiting:
                begun = [_begun(name, into, basis) for name in waiting]
                answer = self.ask(["give"], question(root, begun))
                for part in _parts(answer, {*waiting}):
                    if part.said:
                        said.append(part.said)
                    else:
                        _write(part, into, apart, basis)
                    end = ends.setdefault(part.name, part.size)
                    if part.said or part.begin + len(part.data) >= end:
                        waiting.remove(part.name)
                    done += len(part.data)
                    if progress is not None:
                        progress(min(done, total), total)
        return said


def _begun(name: str, into: Path, basis: Path | None) -> Begun:
    here = into / name
    if basis is not None and not here.exists():
        here = basis / name
    try:
        with open_plain(here) as file:
            size = os.fstat(file.fileno()).st_size
            return Begun(name, size, _end(file, size))
    except OSError:
        return Begun(name, 0, hashlib.sha256().hexdigest())


def _parts(answer: bytes, asked: set[str]) -> Iterator[Part]:
    """TransportError: it is no answer."""
    rest = io.BytesIO(answer)
    is_empty = True
    while line := rest.readline():
        is_empty = False
        try:
            told: list[Any] = json.loads(line)
            name, begin, size, mtime, said, count = told
            part = Part(name, int(begin), int(size), int(mtime), str(said), rest.read(int(count)))
        except (ValueError, TypeError) as error:
            raise TransportError(f"the other side gives no files: {error}") from error
        if name not in asked or len(part.data) != count:
            raise TransportError(f"the other side gives {name!r}, which is not what was asked")
        yield part
    if is_empty:
        raise TransportError("the other side gives nothing of what was asked")


def _write(part: Part, into: Path, apart: Path, basis: Path | None) -> None:
    """Lays down what was given: what grows grows under its name, all else is there when it is."""
    place, aside = into / part.name, apart / "given"
    place.parent.mkdir(parents=True, exist_ok=True)
    if part.begin and not place.exists() and basis is not None:
        shutil.copyfile(basis / part.name, place)
    if part.begin:
        with place.open("r+b") as file:
            file.seek(part.begin)
            file.write(part.data)
            file.truncate()
    else:
        aside.write_bytes(part.data)
        aside.replace(place)
    if part.begin + len(part.data) >= part.size:
        os.utime(place, ns=(part.mtime, part.mtime))
