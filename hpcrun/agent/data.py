"""A run's data: what is brought to a node before the command. Standard library only (Python 3.8+).

Each node does it once, for all that run there. All that is wrong is told at once, before anything
is copied.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterator, List, Set, Tuple

from hpcrun.agent import copying, spool
from hpcrun.agent.lay import clear
from hpcrun.agent.policy import Data
from hpcrun.agent.trees import File, copy, tree
from hpcrun.errors import HpcrunError

COPIES = 4
"""Files that are copied at once."""

MOST = 10
"""Problems of a tree that are told."""

YOUNG = 600.0
"""Seconds for which the folder of another run stays in any case."""

_DIRECT, _UNPACK = "direct", "unpack"

_FOLDER = re.compile(r"hpcrun-(?P<run>[0-9a-f]{8})-data-[0-9.]+\Z")
_OF_RUN = re.compile(rb"(?:\A|\0)HPCRUN_RUN_ID=[^\0]*_([0-9a-f]{8})(?=\0|\Z)")


class DataError(HpcrunError):
    """Data cannot be used, or not be brought to this node."""


def prepare(data: Tuple[Data, ...], folder: str, host: str) -> List[Dict[str, Any]]:
    """Makes a node ready; gives the data of a `data` fact for each input that was brought.

    folder: the node's, for this attempt. DataError: all that is wrong with what is there, or what
    could not be brought.
    """
    problems = [f"{each.what}: {why}" for each in data for why in _wrong(each)]
    if problems:
        raise DataError(f"{host}: " + "; ".join(problems))
    placed = [each for each in data if each.place]
    if not placed:
        return []
    _clear_earlier(folder)
    try:
        spool.prepare(folder)
        for each in placed:
            where = os.path.join(folder, each.place)
            os.makedirs(where if each.output else os.path.dirname(where), exist_ok=True)
    except (OSError, HpcrunError) as error:
        raise DataError(f"{host}: no folder for data: {error}") from error
    trees = [(each, _tree(each, host)) for each in placed if not each.output]
    _expect_room(folder, host, trees)
    facts = []
    for each, files in trees:
        began = time.monotonic()
        _bring(each, files, os.path.join(folder, each.place), host)
        facts.append(
            {
                "host": host,
                "name": each.name,
                "output": False,
                "files": sum(not file.is_folder for file in files),
                "bytes": sum(file.size for file in files),
                "seconds": round(time.monotonic() - began, 3),
                "complete": True,
            }
        )
    return facts


def _wrong(data: Data) -> Iterator[str]:
    """What is wrong with what lies there, seen from this node."""
    try:
        if data.output:
            os.makedirs(data.path, exist_ok=True)
            if not os.access(data.path, os.W_OK | os.X_OK):
                yield f"{data.path} cannot be written"
            return
        found = os.stat(data.path)
    except OSError as error:
        yield f"{data.path}: {error.strerror}"
        return
    wanted = os.R_OK | (os.X_OK if stat.S_ISDIR(found.st_mode) else 0)
    if not os.access(data.path, wanted):
        yield f"{data.path} cannot be read"
    elif data.mode == _UNPACK and not stat.S_ISREG(found.st_mode):
        yield f"{data.path} is no archive"


def _clear_earlier(folder: str) -> None:
    """What killed attempts of this run, or of others of ours, left on this node of what is only a
    copy: their outputs stay until they are collected."""
    root, _, _ = folder.rpartition("-")
    above, base = os.path.split(root)
    try:
        names = [name for name in os.listdir(above) if os.path.join(above, name) != folder]
        running = _running()
    except OSError:
        return
    for name in names:
        left = os.path.join(above, name)
        try:
            if not spool.is_own(left):
                continue
            if name.startswith(f"{base}-") or _is_over(name, os.lstat(left).st_mtime, running):
                clear(os.fsencode(os.path.join(left, "inputs")))
                os.rmdir(left)
        except OSError:
            pass  # outputs stand there as well


def _is_over(name: str, changed: float, running: Set[str]) -> bool:
    """Whether a folder is that of another run which nothing here belongs to any more."""
    match = _FOLDER.match(name)
    return match is not None and match["run"] not in running and time.time() - changed > YOUNG


def _running() -> Set[str]:
    """The ends of the ids of those runs that processes of ours on this node belong to. OSError."""
    found: Set[str] = set()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                found.update(match.decode() for match in _OF_RUN.findall(file.read()))
        except OSError:
            continue  # another user's, or gone
    return found


# -- what there is --------------------------------------------------------------------------------


def _tree(data: Data, host: str) -> List[File]:
    problems: List[str] = []
    files = list(tree(data.path, problems.append))
    if problems:
        more = f" and {len(problems) - MOST} more" if len(problems) > MOST else ""
        raise DataError(f"{host}: {data.what}: {'; '.join(problems[:MOST])}{more}")
    return files


def _expect_room(folder: str, host: str, trees: List[Tuple[Data, List[File]]]) -> None:
    """DataError where it is known beforehand that the disk is too small."""
    needed = sum(file.size for _, files in trees for file in files)
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if needed > free:
        names = ", ".join(data.name for data, _ in trees)
        where = os.path.dirname(folder)
        raise DataError(
            f"{host}: the inputs {names} have {needed} bytes, and {where} has {free} free"
        )


# -- copying --------------------------------------------------------------------------------------


def _bring(data: Data, files: List[File], where: str, host: str) -> None:
    try:
        if data.mode == _UNPACK:
            _unpack(data.path, where)
            return
        if os.path.isdir(data.path):
            os.makedirs(where, exist_ok=True)
        places = ((_at(where, file), file.is_folder) for file in files)
        for folder in sorted({at if itself else os.path.dirname(at) for at, itself in places}):
            os.makedirs(folder, exist_ok=True)

        def bring(file: File) -> None:
            if not file.is_folder:
                copy(_at(data.path, file), _at(where, file), file)

        with ThreadPoolExecutor(COPIES) as pool:
            for _ in pool.map(bring, files):
                pass
    except (OSError, copying.SourceError, ValueError, *_ARCHIVES) as error:
        told = error.__cause__ if isinstance(error, copying.SourceError) else error
        why = getattr(told, "strerror", None) or str(told)
        if getattr(told, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            why = f"no room in {os.path.dirname(where)}: {why}"
        name = getattr(told, "filename", None) or data.path
        raise DataError(f"{host}: {data.what}: {name}: {why}") from error


def _at(root: str, file: File) -> str:
    return os.path.join(root, file.name) if file.name else root


_ARCHIVES = (tarfile.TarError, zipfile.BadZipFile, EOFError)


def _unpack(archive: str, where: str) -> None:
    """An archive of tar (compressed or not) or zip, as far as nothing in it leads outside."""
    os.makedirs(where, exist_ok=True)
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                _unzip(zipped, member, where)
        return
    with tarfile.open(archive) as packed:
        if hasattr(tarfile, "data_filter"):
            packed.extractall(where, filter="data")
        else:  # before 3.8.17, 3.9.17, 3.10.12 and 3.11.4
            packed.extractall(where, _harmless(packed, os.path.realpath(where)))


def _harmless(packed: tarfile.TarFile, where: str) -> Iterator[tarfile.TarInfo]:
    """What is in it, as the filter `data` of newer Pythons takes it. ValueError for what is not.

    Each is looked at once those before it are there: a link of theirs may lead it outside.
    """
    for member in packed:
        member.name = member.name.lstrip("/")
        place = os.path.join(where, member.name)
        linked = os.path.join(os.path.dirname(place) if member.issym() else where, member.linkname)
        places = [place, linked] if member.islnk() or member.issym() else [place]
        if any(os.path.commonpath([where, os.path.realpath(each)]) != where for each in places):
            raise ValueError(f"{member.name} in it leads outside")
        if not (member.isreg() or member.isdir() or member.islnk() or member.issym()):
            raise ValueError(f"{member.name} in it is no file, folder or link")
        member.mode = member.mode & 0o755 | (0o700 if member.isdir() else 0o600)
        yield member


def _unzip(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, where: str) -> None:
    """Python would put what leads outside somewhere inside, and lose modes and links."""
    mode = member.external_attr >> 16
    parts = member.filename.split("/")
    if parts[0] == "" or ".." in parts or stat.S_ISLNK(mode):
        kind = "is a link" if stat.S_ISLNK(mode) else "leads outside"
        raise ValueError(f"{member.filename} in it {kind}")
    place = zipped.extract(member, where)
    if mode and not member.is_dir():
        os.chmod(place, mode & 0o777 | 0o600)
