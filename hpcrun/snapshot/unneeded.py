"""Which snapshots and contents nobody needs, and taking them away beside pushes that go on.

A push touches what it finds and wants (`push.TOUCHED`). So what was touched lately is spared, and
each file first gets another name and is then looked at once more: who touched it before has it
back, and who comes after that finds none and brings it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from hpcrun.forms import is_digest
from hpcrun.layout import UserPaths
from hpcrun.snapshot.objects import READING
from hpcrun.snapshot.restore import read_manifest

COLLECTED = ".collected"
"""Ends the hidden name of what is being taken away."""

_MANIFEST = re.compile(r"([0-9a-f]{64})\.json\Z")


class Stored(NamedTuple):
    """A file of the store of snapshots."""

    path: str
    size: int


def manifests(paths: UserPaths, needed: Collection[str], before: float) -> list[Stored]:
    """The manifests that are not needed and were not touched since. needed: digests. OSError."""
    found: list[Stored] = []
    for entry in _files(paths.snapshots):
        match = _MANIFEST.match(entry.name)
        if match is not None and match[1] not in needed:
            found += _old(entry, before)
    return found


def contents(paths: UserPaths, going: Collection[str], before: float) -> list[Stored]:
    """The contents that no manifest names and that were not touched since.

    going: paths of manifests that count no more. StoreError: one cannot be read; OSError.
    """
    named: set[bytes] = set()
    for entry in _files(paths.snapshots):
        match = _MANIFEST.match(entry.name)
        if match is not None and entry.path not in going:
            named.update(bytes.fromhex(f.sha256) for f in read_manifest(paths, match[1]).files)
    found: list[Stored] = []
    for folder in _folders(paths.objects):
        for entry in _files(folder.path):
            digest = folder.name + entry.name
            if is_digest(digest) and bytes.fromhex(digest) not in named:
                found += _old(entry, before)
    return found


def _old(entry: os.DirEntry[str], before: float) -> Iterator[Stored]:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    if status.st_mtime < before:
        yield Stored(entry.path, status.st_size)


def take_away(path: str, before: float) -> bool:
    """Removes a file unless it was touched since; whether it did. OSError."""
    folder, name = os.path.split(path)
    aside = f"{folder}/.{name}{COLLECTED}"
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return False
    # Opened, since file servers' clients may remember an older time.
    descriptor = os.open(aside, READING)
    try:
        touched = os.fstat(descriptor).st_mtime >= before
    finally:
        os.close(descriptor)
    if touched:
        os.rename(aside, path)
        return False
    os.unlink(aside)
    return True


def give_back(paths: UserPaths) -> None:
    """What was being taken away by a process that was killed comes back. OSError."""
    for folder in (paths.snapshots, *(folder.path for folder in _folders(paths.objects))):
        for entry in _files(folder):
            if entry.name.endswith(COLLECTED):
                _restore(folder, entry.name[1 : -len(COLLECTED)])


def _restore(folder: str, name: str) -> None:
    aside, path = f"{folder}/.{name}{COLLECTED}", f"{folder}/{name}"
    if not os.path.lexists(path):
        os.rename(aside, path)


def _files(folder: str) -> list[os.DirEntry[str]]:
    return [entry for entry in _entries(folder) if entry.is_file(follow_symlinks=False)]


def _folders(folder: str) -> list[os.DirEntry[str]]:
    return [entry for entry in _entries(folder) if entry.is_dir(follow_symlinks=False)]


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    if os.path.islink(folder) or not os.path.isdir(folder):
        return
    with os.scandir(folder) as entries:
        yield from entries
