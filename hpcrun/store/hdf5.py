"""HDF5 files that are written once: made in memory, headed by their size and checksum.

The only module that imports h5py, on first use. The library never writes to a disk itself: where
one is full, it lost what it had written before and ended its process.

    bytes 0–511   text: "hpcrun <kind> <format>", "size <bytes>", "crc32 <of all that follows>",
                  "by <version of hpcrun>"
    from 512 on   HDF5, of which the first 512 bytes are the user block: any HDF5 tool opens it
"""

from __future__ import annotations

import errno
import os
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import hpcrun
from hpcrun.errors import StoreError
from hpcrun.store.formats import NewerFormat
from hpcrun.store.plain import open_plain

if TYPE_CHECKING:
    import numpy

HEAD = 512

Opened = TypeVar("Opened")

WHOLE = 1 << 9
"""Bytes up to which an array is not compressed: that has its price too."""

LIBRARY = ("v110", "v110")
"""The HDF5 libraries that read it: from 1.10 (2016) on. What older ones read is larger."""

CHUNK = 1 << 15
"""Bytes of a chunk, compressed on its own: what is read at least."""

BLOCK = 1 << 20
"""Bytes that are read at a time where a whole file is."""

EXPANDED = 1100
"""How many bytes gzip makes of one at most."""

MOST = 1 << 30
"""Bytes of a column that are read at once at most: a small file may tell of many."""


class Damaged(StoreError):
    """A file that is no whole file of the wanted kind and format."""

    def __init__(self, path: Path | None, message: str) -> None:
        super().__init__(f"{path} is damaged: {message}" if path is not None else message)


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turns what fails inside into Damaged: a file may say anything, whoever wrote it."""
    try:
        yield
    except (
        LookupError, ValueError, TypeError, AttributeError, AssertionError, ArithmeticError,
        RuntimeError, MemoryError,
    ) as error:  # fmt: skip
        raise Damaged(path, f"its parts do not fit: {error!r}") from error


class Head(NamedTuple):
    """What the first 512 bytes tell. by: the version of hpcrun, where they tell it."""

    kind: str
    format: int
    size: int
    crc32: int
    by: str = ""

    def encode(self) -> bytes:
        text = f"hpcrun {self.kind} {self.format}\nsize {self.size}\ncrc32 {self.crc32:08x}\n"
        writer = f"by {self.by}\n" if self.by else ""
        return (text + writer).encode("ascii").ljust(HEAD, b"\0")

    @classmethod
    def decode(cls, data: bytes, path: Path) -> Head:
        """Damaged if it is none."""
        try:
            name, size, crc32, *more = data.decode("ascii").split("\n")
            hpcrun, kind, number = name.split(" ")
            if len(data) != HEAD or hpcrun != "hpcrun":
                raise ValueError(name)
            sizes, checks = size.split(" ")[1], crc32.split(" ")[1]
            by = more[0].removeprefix("by ") if more and more[0].startswith("by ") else ""
            return cls(kind, int(number), int(sizes), int(checks, 16), by)
        except (ValueError, IndexError) as error:
            raise Damaged(path, "it does not begin as a file of hpcrun") from error


def encode(kind: str, number: int, columns: Mapping[str, array[Any] | bytes]) -> bytes:
    """The whole file of that kind and format. columns: by name, group/name makes a group; bytes
    stand as 8-bit numbers."""
    import h5py
    import numpy

    with h5py.File(
        "none",
        "w",
        driver="core",
        backing_store=False,
        userblock_size=HEAD,
        libver=LIBRARY,
    ) as file:
        for name, column in columns.items():
            kind_of = numpy.uint8 if isinstance(column, bytes) else numpy.dtype(column.typecode)
            values = numpy.frombuffer(column, dtype=kind_of)
            if values.nbytes <= WHOLE:
                file.create_dataset(name, data=values, track_times=False)
                continue
            file.create_dataset(
                name,
                data=values,
                chunks=(min(len(values), CHUNK // values.itemsize),),
                compression="gzip",
                shuffle=values.itemsize > 1,
                track_times=False,
            )
        file.flush()
        image = file.id.get_file_image()
    head = Head(kind, number, HEAD + len(image), zlib.crc32(image), hpcrun.__version__)
    return head.encode() + bytes(image)


def check(path: Path, kind: str) -> Head:
    """Reads the whole file and compares its checksum. Damaged; OSError."""
    with _opened(path) as file:
        head = Head.decode(file.read(HEAD), path)
        _expect(path, head, kind, os.fstat(file.fileno()).st_size)
        checksum = 0
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    if checksum != head.crc32:
        raise Damaged(path, "its checksum is wrong")
    return head


def opened(path: Path, kind: str, readers: Mapping[int, Callable[[Columns], Opened]]) -> Opened:
    """A file, opened by the reader of its format. Damaged, NewerFormat, OSError."""
    columns = Columns(path, kind)
    head = columns.head
    if head.format in readers:
        return readers[head.format](columns)
    columns.close()
    if head.format > max(readers):
        raise NewerFormat(str(path), head.format, readers, head.by)
    raise Damaged(path, f"there is no format {head.format}")


class Columns:
    """A file that was opened to be read: a context manager. No lock is taken: it never changes.

    By h5py's low-level interface: its objects for people take as long to make as a column to read.
    """

    def __init__(self, path: Path, kind: str) -> None:
        """Damaged if the file is not whole, or of another kind; OSError."""
        self.path = path
        self._opened: dict[str, _Column] = {}
        with _opened(path) as file:
            self.head = Head.decode(file.read(HEAD), path)
            _expect(path, self.head, kind, os.fstat(file.fileno()).st_size)
            from h5py import h5f, h5p

            access = h5p.create(h5p.FILE_ACCESS)
            access.set_fclose_degree(h5f.CLOSE_STRONG)
            access.set_file_locking(False, True)
            # What was looked at, whatever has its name by now.
            name = f"/proc/self/fd/{file.fileno()}".encode()
            try:
                self._file = h5f.open(name, h5f.ACC_RDONLY, fapl=access)
            except (OSError, RuntimeError) as error:
                if not os.fstat(file.fileno()).st_nlink:  # HDF5 wants the path, which is gone
                    gone = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
                    raise gone from error
                raise Damaged(path, str(error)) from error

    def __contains__(self, name: str) -> bool:
        return name.encode() in self._file

    def length(self, name: str) -> int:
        """How many values a column has. Damaged."""
        return self._column(name).length

    def read(self, name: str, start: int = 0, stop: int | None = None) -> numpy.ndarray:
        """The values of a column from start to stop (default: all). Damaged."""
        import numpy
        from h5py import h5s

        column = self._column(name)
        start, stop, _ = slice(start, stop).indices(column.length)
        try:
            count = max(0, stop - start)
            if count * column.dtype.itemsize > MOST:
                raise ValueError(f"{count} values at once")
            values = numpy.empty(count, column.dtype)
            if len(values):
                there = column.dataset.get_space()
                there.select_hyperslab((start,), values.shape)
                column.dataset.read(h5s.create_simple(values.shape), there, values)
        except (OSError, ValueError, TypeError, RuntimeError, MemoryError) as error:
            raise self._unreadable(name, error) from error
        return values

    @property
    def expanded(self) -> int:
        """The bytes of all columns together."""
        columns = map(self._column, self._names())
        return sum(column.length * column.dtype.itemsize for column in columns)

    def _names(self) -> Iterator[str]:
        """All columns, those in groups too."""
        from h5py import h5g, h5l, h5o

        for name in self._file:
            is_own = self._file.links.get_info(name).type == h5l.TYPE_HARD
            if is_own and h5o.get_info(self._file, name).type == h5o.TYPE_GROUP:
                group = name.decode()
                yield from (f"{group}/{each.decode()}" for each in h5g.open(self._file, name))
            else:
                yield name.decode()

    def _column(self, name: str) -> _Column:
        if name not in self._opened:
            try:
                self._opened[name] = _Column.of(self._file, name, EXPANDED * self.head.size)
            except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
                raise self._unreadable(name, error) from error
        return self._opened[name]

    def _unreadable(self, name: str, error: Exception) -> Damaged:
        return Damaged(self.path, f"its column {name} cannot be read: {error}")

    def text(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes of a column of bytes."""
        return self.read(name, start, stop).tobytes()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Columns:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Column(NamedTuple):
    """A row of numbers that lies in the file itself, and is no larger than the file can make it."""

    dataset: Any
    length: int
    dtype: numpy.dtype[Any]

    @classmethod
    def of(cls, file: Any, name: str, most: int) -> _Column:
        """most: bytes. KeyError, ValueError."""
        from h5py import h5d, h5l

        for part in accumulate(name.split("/"), "{}/{}".format):
            if file.links.get_info(part.encode()).type != h5l.TYPE_HARD:
                raise ValueError(f"{part} is a link")
        dataset = h5d.open(file, name.encode())
        shape, dtype = dataset.shape, dataset.dtype
        if len(shape) != 1 or dtype.kind not in "uif":
            raise ValueError(f"{name} is no row of numbers")
        created = dataset.get_create_plist()
        if created.get_external_count() or created.get_layout() == h5d.VIRTUAL:
            raise ValueError(f"{name} lies in another file")
        if shape[0] * dtype.itemsize > most:
            raise ValueError(f"{name} has {shape[0]} values")
        if created.get_layout() == h5d.CHUNKED:
            (chunk,) = created.get_chunk()
            if chunk * dtype.itemsize > CHUNK:
                raise ValueError(f"{name} lies in chunks of {chunk} values")
        return cls(dataset, shape[0], dtype)


def _opened(path: Path) -> BinaryIO:
    try:
        return open_plain(path)
    except StoreError as error:
        raise Damaged(path, "it is not a plain file") from error
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR):
            raise
        raise Damaged(path, "it is a link or a folder") from error


def _expect(path: Path, head: Head, kind: str, size: int) -> None:
    if head.kind != kind:
        raise Damaged(path, f"it is of kind {head.kind}, not {kind}")
    if head.size != size:
        raise Damaged(path, f"it has {size} bytes of {head.size}")
