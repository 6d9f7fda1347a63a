"""Writing an export, and reading one that anybody may have made. Both stream: no file is in memory.

A name that ends in `.gz` or `.tgz` means that it is compressed; who reads sees it by its first
bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from hpcrun.durable import sync_folder
from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.progress import counted
from hpcrun.store import tar
from hpcrun.store.bundle import LARGEST_MANIFEST, NAME, Bundle, LinkMember, Member, Refused
from hpcrun.store.holes import GRAIN, Survey, map_of
from hpcrun.store.plain import open_plain
from hpcrun.store.publishing import aside, take_name

_PIECE = 1 << 20
_MOST_PIECES = 1 << 22
_LONGEST_LINE = 24
_GZIP = b"\x1f\x8b"
_SUFFIXES = (".gz", ".tgz")


class Source(NamedTuple):
    """Where a member's bytes come from."""

    path: Path
    survey: Survey


def write_bundle(path: Path, bundle: Bundle, sources: Mapping[str, Source]) -> int:
    """Writes an export under a name that is free; gives its bytes. StoreError.

    sources: of each file, by its member's path. The name is there when all of it is on the disk.
    """
    with told(f"write {path}"):
        if os.path.lexists(path):
            raise StoreError(f"there is a file {path} already", "name another one")
        written = aside(path)
        try:
            with written.open("xb") as file:
                with _packed(file, path) as packed:
                    _write_all(packed, bundle, sources)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            if not take_name(written, path):
                raise StoreError(f"there is a file {path} already", "name another one")
        finally:
            written.unlink(missing_ok=True)
        sync_folder(path.parent)
    return size


def _packed(file: BinaryIO, path: Path) -> AbstractContextManager[BinaryIO]:
    if path.name.endswith(_SUFFIXES):
        # Neither name nor time stand in it: the same runs give the same bytes.
        packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)
        return cast(AbstractContextManager[BinaryIO], packed)
    return nullcontext(file)


def _write_all(file: BinaryIO, bundle: Bundle, sources: Mapping[str, Source]) -> None:
    text = bundle.encode()
    if len(text) > LARGEST_MANIFEST:
        count = len(bundle.members)
        raise StoreError(f"{count} files are too many for one export", "make several")
    head = tar.header(NAME, len(text)) + tar.padded(text)
    file.write(head)
    size = len(head)
    with counted("writing the export", _stored(bundle)) as tell:
        for member in bundle.members:
            header = member.header()
            file.write(header)
            size += len(header)
            if isinstance(member, Member):
                _write(file, member, sources[member.path], tell)
                padding = tar.padding(member.stored)
                file.write(bytes(padding))
                size += member.stored + padding
    file.write(tar.end(size))


def _stored(bundle: Bundle) -> int:
    """The bytes of all its files."""
    return sum(member.stored for member in bundle.members if isinstance(member, Member))


def _write(file: BinaryIO, member: Member, source: Source, tell: Callable[[int], None]) -> None:
    """StoreError: it is not what it was when it was surveyed."""
    digest, table = hashlib.sha256(), source.survey.map if member.packed is not None else b""
    file.write(table)
    with told(f"read {source.path}"), open_plain(source.path) as opened:
        for begin, length in source.survey.pieces:
            opened.seek(begin)
            for piece in _pieces(opened, length):
                digest.update(piece)
                file.write(piece)
                tell(len(piece))
        size = os.fstat(opened.fileno()).st_size
    digest.update(table)
    if size != member.size or digest.hexdigest() != member.sha256:
        raise StoreError(f"{source.path} changed while it was exported", "export it again")


def _pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length and (piece := file.read(min(_PIECE, length))):
        length -= len(piece)
        yield piece


class Unpacking:
    """An export that is read, from its beginning to its end: a context manager.

    bundle: what its manifest tells; it is checked, what follows is not yet. StoreError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        with told(f"read {path}"):
            file = self._stack.enter_context(path.open("rb"))
            self._file: BinaryIO = file
            if file.peek(2)[:2] == _GZIP:
                self._file = cast(BinaryIO, gzip.GzipFile(fileobj=file))
        self._size = 0
        try:
            self.bundle = Bundle.decode(self._manifest(), str(path))
        except BaseException:
            self.close()
            raise

    def _manifest(self) -> bytes:
        head = self._read(tar.BLOCK, f"{self._path} is no export of hpcrun")
        try:
            size = int(head[124:135], 8)
        except ValueError:
            size = -1
        if size < 0 or head != tar.header(NAME, size):
            raise Refused(f"{self._path} is no export of hpcrun")
        if size > LARGEST_MANIFEST:
            raise Refused(f"the manifest of {self._path} has {size} bytes")
        text = b"".join(self._stream(size))
        self._skip_padding(size)
        return text

    def unpack(self, place: Callable[[Member], Path | None]) -> None:
        """Reads all members and proves them. place: where a file goes to; None: nowhere.

        Links are not made. StoreError: the export is refused, or a file cannot be written.
        """
        with counted(f"reading {self._path.name}", _stored(self.bundle)) as tell:
            for member in self.bundle.members:
                self._next(member, place)
                tell(member.stored if isinstance(member, Member) else 0)
        end = tar.end(self._size)
        if self._read(len(end)) != end or self._some(1):
            raise Refused(f"{self._path} goes on behind its last member")

    def _next(self, member: Member | LinkMember, place: Callable[[Member], Path | None]) -> None:
        header = member.header()
        if self._read(len(header)) != header:
            raise Refused(f"{self._path} does not hold {member.path!r} where its manifest says")
        if isinstance(member, Member):
            target = place(member)
            with told(f"write {target}"):
                self._unpack(member, target)
            self._skip_padding(member.stored)

    def _unpack(self, member: Member, target: Path | None) -> None:
        whole = b"", ((0, member.size),)
        table, pieces = self._map(member) if member.packed is not None else whole
        digest = hashlib.sha256()
        with ExitStack() as stack:
            file = stack.enter_context(_new(target, member)) if target is not None else None
            for begin, length in pieces:
                if file is not None:
                    file.seek(begin)
                for piece in self._stream(length):
                    digest.update(piece)
                    if file is not None:
                        file.write(piece)
            digest.update(table)
            if digest.hexdigest() != member.sha256:
                raise Refused(f"{self._path}: the content of {member.path!r} is not what it was")
            if file is not None:
                file.truncate(member.size)
                file.flush()
                os.fsync(file.fileno())
                os.utime(file.fileno(), ns=(member.mtime, member.mtime))

    def _map(self, member: Member) -> tuple[bytes, tuple[tuple[int, int], ...]]:
        """The map of a file with holes, byte for byte as hpcrun writes it, and its pieces."""
        text = self._read(tar.BLOCK)
        wrong = Refused(f"{self._path}: the map of {member.path!r} is damaged")
        try:
            count = int(text.partition(b"\n")[0])
            if not 0 <= count <= min(member.size // GRAIN + 2, _MOST_PIECES):
                raise wrong
            lines = text.count(b"\n")
            blocks = [text]
            while lines < 2 * count + 1:
                if len(blocks) * tar.BLOCK > _LONGEST_LINE * (2 * count + 1):
                    raise wrong
                blocks.append(self._read(tar.BLOCK))
                lines += blocks[-1].count(b"\n")
            text = b"".join(blocks)
            numbers = [int(line) for line in text.split(b"\n")[1 : 2 * count + 1]]
        except ValueError as error:
            raise wrong from error
        told = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        pieces = tuple(piece for piece in told if piece[1])
        ends = [0, *(begin + length for begin, length in pieces)]
        rising = all(begin >= end for (begin, _), end in zip(pieces, ends, strict=False))
        stored = len(text) + sum(length for _, length in pieces)
        if not rising or ends[-1] > member.size or stored != member.packed:
            raise wrong
        if map_of(pieces, member.size) != text:
            raise wrong
        return text, pieces

    def _skip_padding(self, size: int) -> None:
        if any(self._read(tar.padding(size))):
            raise Refused(f"{self._path} is damaged")

    def _stream(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._some(min(size, _PIECE))
            if not piece:
                raise Refused(f"{self._path} ends too early: it was cut")
            size -= len(piece)
            yield piece

    def _read(self, size: int, otherwise: str = "") -> bytes:
        """So many bytes. Refused: there are not so many."""
        data = b""
        while len(data) < size and (piece := self._some(size - len(data))):
            data += piece
        if len(data) < size:
            raise Refused(otherwise or f"{self._path} ends too early: it was cut")
        return data

    def _some(self, size: int) -> bytes:
        try:
            with told(f"read {self._path}"):
                data = self._file.read(size)
        except (EOFError, zlib.error) as error:
            raise Refused(f"{self._path} is cut or damaged: {error}") from error
        except StoreError as error:
            if isinstance(error.__cause__, gzip.BadGzipFile):
                raise Refused(f"{self._path} is damaged: {error.__cause__}") from error
            raise
        self._size += len(data)
        return data

    def close(self) -> None:
        """Closes the file."""
        self._stack.close()

    def __enter__(self) -> Unpacking:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _new(path: Path, member: Member) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o777 if member.executable else 0o666), "wb")
