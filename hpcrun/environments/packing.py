"""An environment as one file, for the nodes' own disks: made once for each content.

    environments/packs/<key>.tar.gz         scripts in bin/ find their Python beside themselves
    environments/packs/<key>.tar.gz.facts   KiB that a node needs, and the SHA-256: written last

Python takes a virtual or conda environment from wherever it lies, and its compiled files by the
times of their sources, which an archive keeps. What holds the environment's path all the same
finds it where it was: that stays.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hpcrun.errors import BuildError
from hpcrun.faults import told
from hpcrun.progress import waiting

PACKS = "packs"
SUFFIX = ".tar.gz"
FACTS = ".facts"
ASIDE = re.compile(r"\..*\.tar\.gz\.[0-9a-f]{8}(\.facts)?\Z")
"""A file that is not whole yet."""

LEVEL = 1
"""gzip's level: packing is to be quick, and unpacking is as quick at any."""

SPARE = 64 << 20
"""Bytes that must stay free on a node."""

_OF_PYTHON = re.compile(
    rb"#!(?P<words>[^\n]*)\n"
    rb"(?:'''exec' (?P<long>\x22[^\x22\n]*\x22|\S+) [^\n]*(?:\n' '''|#''')\n)?"
)
_RELATIVE = """\
#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")"/'{name}' "$0" "$@"
' '''
"""


class Packed(NamedTuple):
    """files: how many there are. bytes: of all of them. size: of the packed file."""

    files: int
    bytes: int
    size: int


def key_of(prefix: Path) -> str:
    """Of the names, sizes, times and modes of all that an environment holds. BuildError."""
    digest = hashlib.sha256()
    for path, found in _walk(prefix.resolve()):
        kept = (path, found.st_size, found.st_mtime_ns, found.st_mode)
        digest.update(repr(kept).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def is_packed(file: str) -> bool:
    """Whether it is there as a whole; it is touched then: pruning spares the young."""
    try:
        os.utime(file)
    except OSError:
        return False
    return Path(file + FACTS).exists()


def forget(file: str) -> None:
    """Removes what lies beside a packed environment, which is gone. OSError."""
    Path(file + FACTS).unlink(missing_ok=True)
    Path(f"{file}.lock").unlink(missing_ok=True)


def pack(prefix: Path, file: str) -> Packed:
    """Packs an environment. prefix: by the path at which its scripts know it. OSError."""
    root, target = prefix.resolve(), Path(file)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    known = tuple({f"{prefix}/", f"{root}/"})
    files = size = 0
    try:
        with aside.open("xb") as raw:
            with (
                gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
                waiting(f"packing {prefix.name}"),
            ):
                for path, found in _walk(root):
                    _add(tar, root, path, known)
                    files, size = files + 1, size + found.st_size
            raw.flush()
            os.fsync(raw.fileno())
        with aside.open("rb") as packed_file:
            digest = hashlib.file_digest(packed_file, "sha256").hexdigest()
        taken = aside.stat().st_size
        aside.rename(target)
    finally:
        aside.unlink(missing_ok=True)
    _write_facts(target, f"{(size + taken + SPARE) // 1024} {digest}\n")
    return Packed(files, size, taken)


def _write_facts(target: Path, text: str) -> None:
    """What makes it one that jobs take."""
    aside = target.with_name(f".{target.name}.{os.urandom(4).hex()}{FACTS}")
    try:
        aside.write_text(text)
        aside.rename(f"{target}{FACTS}")
    finally:
        aside.unlink(missing_ok=True)


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """(path from the root, status) of all that is below it, sorted. BuildError."""
    with told(f"read the environment {root}", BuildError):
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
        pending = [(entry.name, entry) for entry in reversed(entries)]
        while pending:
            path, entry = pending.pop()
            yield path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                inner = sorted(os.scandir(entry.path), key=lambda one: one.name)
                pending += [(f"{path}/{one.name}", one) for one in reversed(inner)]


def _add(tar: tarfile.TarFile, root: Path, path: str, known: tuple[str, ...]) -> None:
    if stat.S_ISSOCK((root / path).lstat().st_mode):
        return  # no archive holds one
    member = tar.gettarinfo(root / path, path)
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = int(member.mtime)
    if member.issym():
        member.linkname = _from_within(member.linkname, path, known)
    if member.islnk() or not member.isreg():
        tar.addfile(member)
        return
    with (root / path).open("rb") as file:
        if path.startswith("bin/"):
            script = _moved(file.read(4096), known)
            if script is not None:
                rest = script[0] + (root / path).read_bytes()[script[1] :]
                member.size = len(rest)
                tar.addfile(member, io.BytesIO(rest))
                return
            file.seek(0)
        tar.addfile(member, file)


def _from_within(link: str, path: str, known: tuple[str, ...]) -> str:
    """Where a link leads that leads into the environment by its path."""
    for prefix in known:
        if link.startswith(prefix):
            return os.path.relpath(link.removeprefix(prefix), Path(path).parent)
    return link


def _moved(begin: bytes, known: tuple[str, ...]) -> tuple[bytes, int] | None:
    """What a script of the environment's Python begins with, for whatever folder it lies in, and
    how many of its bytes that stands for; None: it is none."""
    match = _OF_PYTHON.match(begin)
    if match is None:
        return None
    words = os.fsdecode(match["long"] or match["words"]).strip().strip('"')
    python = words.split(" ")[0] if match["long"] is None else words
    in_bin = tuple(f"{prefix}bin/" for prefix in known)
    if not python.startswith(in_bin) or not Path(python).name.startswith("python"):
        return None
    return _RELATIVE.format(name=Path(python).name).encode(), match.end()
