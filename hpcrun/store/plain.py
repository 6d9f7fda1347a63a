"""Reading files that others may have put there."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.forms import DEPTH_LIMIT, is_deep

MOST = 512 << 20
"""Bytes of another user's journals of one kind that are read at most: twice what is sealed."""

MOST_TEXT = 64 << 20
"""Bytes of another user's run.json, script and the like that are read at most."""


def open_plain(path: Path) -> BinaryIO:
    """A file to read. OSError, also for a link; StoreError for a pipe, without waiting for it."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise StoreError(f"{path} is not a plain file", "its owner may remove it")
    return file


def opens(path: Path) -> bool:
    """Whether a file is there, by opening it: what a node remembers of a name may be gone."""
    try:
        open_plain(path).close()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, StoreError):
        return True  # who reads it tells why it cannot be read
    return True


def plain_bytes(path: Path, most: int = MOST) -> bytes:
    """All of a file. OSError, and as `open_plain`; StoreError: another's, of more bytes than most.

    A user's own file may be of any size.
    """
    with open_plain(path) as file:
        found = os.fstat(file.fileno())
        if found.st_size > most and found.st_uid != os.geteuid():
            raise _too_large(path, found.st_size, most)
        return file.read() if found.st_uid == os.geteuid() else file.read(most)


def _too_large(path: Path, size: int, most: int) -> StoreError:
    message = f"{path} has {size} bytes; of another user's {most} are read at most"
    return StoreError(message, "its owner may seal the run, or remove it")


def read_plain(path: Path, most: int = MOST) -> bytes:
    """All of a file. StoreError."""
    with told(f"read {path}"):
        return plain_bytes(path, most)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. StoreError."""
    return object_in(path, read_plain(path, MOST_TEXT))


def object_in(path: Path, text: str | bytes) -> dict[str, Any]:
    """The JSON object in a file's text. StoreError: it is none, or one that cannot be printed."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise StoreError(f"{path} is damaged: not an object")
    if is_deep(value):
        raise StoreError(f"{path} is damaged: it is nested more than {DEPTH_LIMIT} deep")
    return value


def files_in(folder: Path | str) -> list[str]:
    """The names of the plain files in a folder; none where it is missing, or a link. OSError."""
    return _names(folder, lambda entry: entry.is_file(follow_symlinks=False))


def folders_in(folder: Path | str) -> list[str]:
    """The names of the folders in a folder; none where it is missing, or a link. OSError."""
    return _names(folder, lambda entry: entry.is_dir(follow_symlinks=False))


def below(
    root: Path | str, barred: Callable[[str], None] = lambda folder: None
) -> Iterator[tuple[str, list[str]]]:
    """(folder, the names in it that are no folders) of a folder and all below; links stay links.

    What cannot be listed is passed over; barred: hears of a folder that this user may not list.
    `os.walk` calls itself for each level (Python 3.11), and a folder can be deeper than that goes.
    """
    waiting = [os.fspath(root)]
    while waiting:
        where = waiting.pop()
        try:
            with os.scandir(where) as entries:
                found = sorted(
                    (entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries
                )
        except PermissionError:
            barred(where)
            continue
        except OSError:
            continue
        yield where, [name for name, is_folder in found if not is_folder]
        waiting += [f"{where}/{name}" for name, is_folder in reversed(found) if is_folder]


def _names(folder: Path | str, is_meant: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return []
    try:
        with os.scandir(descriptor) as entries:
            return [entry.name for entry in entries if is_meant(entry)]
    except FileNotFoundError:
        return []  # it was opened from what this node remembers
    finally:
        os.close(descriptor)
