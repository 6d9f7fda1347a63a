"""What a snapshot holds, as a value: its files and links, and the digest that names it.

Pure: no input or output. Paths are relative, with `/`, in UTF-8; bytes of a name that are not
UTF-8 are kept as surrogate escapes, so every name comes back exactly.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from hpcrun.errors import SnapshotError
from hpcrun.forms import is_count

FORMAT = 1

OWN_FOLDERS = frozenset({"outputs", "logs", "user_logs"})
"""The run's own folders at the root of its working folder: never part of a snapshot."""


class Entry(NamedTuple):
    """A regular file: its path, the SHA-256 of its content in hex, its bytes, its x bit."""

    path: str
    sha256: str
    size: int
    executable: bool = False


class Link(NamedTuple):
    """A symbolic link; its target is relative and leads to something in the snapshot."""

    path: str
    target: str


class Limits(NamedTuple):
    """What a snapshot may hold at most: bytes of all files together, and files and links."""

    max_bytes: int = 1 << 30
    max_files: int = 20_000


@dataclass(frozen=True)
class Manifest:
    """The files and links of a snapshot, sorted by path. Make one with `Manifest.of`."""

    entries: tuple[Entry | Link, ...]

    @classmethod
    def of(cls, entries: Iterable[Entry | Link]) -> Manifest:
        """The manifest of these entries, in any order."""
        return cls(tuple(sorted(entries)))

    @property
    def files(self) -> tuple[Entry, ...]:
        """The regular files, sorted by path."""
        return tuple(entry for entry in self.entries if isinstance(entry, Entry))

    @property
    def links(self) -> tuple[Link, ...]:
        """The symbolic links, sorted by path."""
        return tuple(entry for entry in self.entries if isinstance(entry, Link))

    @property
    def total_size(self) -> int:
        """The bytes of all files together."""
        return sum(entry.size for entry in self.files)

    @cached_property
    def digest(self) -> str:
        """The snapshot's name, 64 hex digits: equal paths, contents, x bits and link targets.

        It is the SHA-256 of the entries' fields, each ended by NUL, which no name can hold.
        """
        fields = [f"hpcrun snapshot {FORMAT}\0"]
        for entry in self.entries:
            if isinstance(entry, Link):
                fields.append(f"{entry.path}\0link\0{entry.target}\0")
            else:
                kind = "executable" if entry.executable else "file"
                fields.append(f"{entry.path}\0{kind}\0{entry.sha256}\0")
        return hashlib.sha256("".join(fields).encode("utf-8", "surrogateescape")).hexdigest()

    def largest(self, count: int) -> list[Entry]:
        """The largest files, largest first."""
        return heapq.nsmallest(count, self.files, key=lambda entry: (-entry.size, entry.path))

    def encode(self) -> bytes:
        """The manifest as JSON in ASCII, one entry on a line."""
        lines = ",\n".join(json.dumps(e._asdict(), separators=(",", ":")) for e in self.entries)
        head = f'{{"format":{FORMAT},"digest":"{self.digest}","entries":['
        return f"{head}\n{lines}\n]}}\n".encode("ascii")

    @classmethod
    def decode(cls, data: bytes | str) -> Manifest:
        """The manifest in JSON. SnapshotError if it is damaged or would reach outside."""
        try:
            value = json.loads(data)
            if value["format"] != FORMAT:
                raise SnapshotError(f"the manifest has format {value['format']}, not {FORMAT}")
            manifest = cls.of(entry_of(item) for item in value["entries"])
            digest = value["digest"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SnapshotError(f"the manifest is damaged: {error!r}") from error
        if manifest.digest != digest:
            raise SnapshotError(
                f"the manifest is damaged: its digest is {digest}, that of its entries"
                f" {manifest.digest}"
            )
        check_paths(manifest.entries)
        return manifest


def object_name(sha256: str) -> str:
    """Where a content lies below the folder of objects."""
    return f"{sha256[:2]}/{sha256[2:]}"


def shown(path: str) -> str:
    """A path for people: as it is, or quoted where it holds what cannot be printed."""
    return path if path.isprintable() else repr(path)


def shown_size(size: int) -> str:
    """A number of bytes for people, in powers of 1024."""
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.4g} {unit}"
        amount /= 1024
    return f"{amount:.4g} TiB"


def check_limits(sizes: Sequence[tuple[str, int]], limits: Limits, complete: bool = True) -> None:
    """Refuses files that are too many or too large: SnapshotError with the numbers and names.

    sizes: (path, bytes) of every file and link. complete: False if there are still more.
    """
    total = sum(size for _, size in sizes)
    wrong = []
    if total > limits.max_bytes:
        wrong.append(f"{shown_size(total)}, and {shown_size(limits.max_bytes)} are allowed")
    if len(sizes) > limits.max_files:
        count = f"{len(sizes):,} files" if complete else f"more than {len(sizes):,} files"
        wrong.append(f"{count}, and {limits.max_files:,} are allowed")
    if not wrong:
        return
    raise SnapshotError(
        f"the snapshot would hold {' and '.join(wrong)}\n{_biggest(sizes)}",
        "name what the run does not need in .amlignore or .gitignore, keep data outside the"
        " source folder, or raise the snapshot's limits (max_bytes, max_files)",
    )


def _biggest(sizes: Sequence[tuple[str, int]]) -> str:
    largest = heapq.nsmallest(10, sizes, key=lambda item: (-item[1], item[0]))
    lines = [f"  {shown_size(size):>10}  {shown(path)}" for path, size in largest]
    folders = Counter(path.rpartition("/")[0] or "." for path, _ in sizes).most_common(5)
    most = ", ".join(f"{shown(folder)} ({count:,})" for folder, count in folders)
    return "\n".join(["the largest files:", *lines, f"the folders with most files: {most}"])


def entry_of(item: Mapping[str, Any]) -> Entry | Link:
    """The entry of its fields by name. ValueError, KeyError, TypeError: it is none."""
    if "target" in item:
        return Link(_text(item["path"]), _text(item["target"]))
    size, executable = item["size"], item["executable"]
    if not is_count(size) or type(executable) is not bool:
        raise ValueError(f"the size or the x bit of {item['path']!r}")
    sha256 = _text(item["sha256"])
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError(f"the digest of {item['path']!r}")
    return Entry(_text(item["path"]), sha256, size, executable)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"not a name: {value!r}")
    value.encode("utf-8", "surrogateescape")
    return value


def check_paths(entries: Iterable[Entry | Link]) -> None:
    """Refuses paths that lead outside, meet twice, or go through another entry: SnapshotError."""
    paths = [entry.path for entry in entries]
    known = set(paths)
    for path in paths:
        parts = path.split("/")
        above = ("/".join(parts[:length]) for length in range(1, len(parts)))
        if any(part in ("", ".", "..") for part in parts) or not known.isdisjoint(above):
            raise SnapshotError(f"the manifest is damaged: {shown(path)} cannot be laid")
    if len(known) != len(paths):
        raise SnapshotError("the manifest is damaged: a path stands in it twice")
