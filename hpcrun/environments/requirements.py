"""pip's requirements, read whole before anything is built: what is to be installed, and its key.

Nested files are taken in, local archives are named by their content, and paths are made whole, so
that the same requirements have one key wherever they lie.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from hpcrun.errors import ConfigError, Problem

_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_COMMENT = re.compile(r"(^|\s)#.*")
_LOGIN = re.compile(r"://[^/\s]*@")
_NESTED = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c"}
_FOLDERS = {"-f": "--find-links", "--find-links": "--find-links"}
_EDITABLE = ("-e", "--editable")


class Requirement(NamedTuple):
    """line: for pip, with whole paths. content: the same whoever's folder it lies in."""

    line: str
    content: str


def read_requirements(lines: Iterable[str], file: Path | None, folder: Path) -> list[Requirement]:
    """All that a list and a file ask for, in order, the file's first.

    folder: what paths in the list are relative to. ConfigError: what cannot be read, or is a
    folder: what lies in it would be another thing at each run.
    """
    found = list(_of_file(file, ())) if file is not None else []
    for line in lines:
        found += _of_line(line, folder, "", None, ())
    return list(dict.fromkeys(found))


def files_of(file: Path) -> Iterator[Path]:
    """A file of requirements, and those of its folder that it names, as far as they are there."""
    folder, seen, left = Path(os.path.normpath(file.parent)), set[Path](), [file]
    while left:
        each = Path(os.path.normpath(left.pop()))
        if each in seen or not each.is_relative_to(folder) or not each.is_file():
            continue
        seen.add(each)
        yield each
        for line in each.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            option, value = _option(_COMMENT.sub("", line).strip())
            left += [each.parent / value] if option in _NESTED and "://" not in value else []


def _of_file(file: Path, within: tuple[Path, ...]) -> Iterator[Requirement]:
    if file in within:
        raise ConfigError(Problem(f"the requirements {file} name themselves"))
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(Problem(f"cannot read the requirements {file}: {said}")) from error
    line, begun = "", 1
    for number, part in enumerate(text.splitlines(), 1):
        begun = begun if line else number
        line += _COMMENT.sub("", part)
        if line.endswith("\\"):
            line = line[:-1]
            continue
        yield from _of_line(line, file.parent, str(file), begun, (*within, file))
        line = ""
    yield from _of_line(line, file.parent, str(file), begun, (*within, file))


def _of_line(
    line: str, folder: Path, file: str, number: int | None, within: tuple[Path, ...]
) -> Iterator[Requirement]:
    line = " ".join(line.split())
    if not line:
        return
    if _LOGIN.search(line) and "git+ssh" not in line:
        message = "a requirement holds a login, which would stand in the run history"
        raise ConfigError(Problem(message, "keep it in pip's own configuration", file, number))
    option, value = _option(line)
    if option in _EDITABLE:
        message = f"{line!r} changes after it is installed"
        raise ConfigError(Problem(message, "build a wheel of it, and name that", file, number))
    if option in _NESTED and "://" not in value:
        nested = folder / Path(value).expanduser()
        inner = _of_file(nested, within)
        if _NESTED[option] == "-r":
            yield from inner
        else:
            content = " ".join(each.content for each in inner)
            yield Requirement(f"-c {shlex.quote(str(nested.absolute()))}", f"-c {content}")
    elif option in _FOLDERS and "://" not in value:
        where = str((folder / Path(value).expanduser()).absolute())
        yield Requirement(f"--find-links {shlex.quote(where)}", f"--find-links {where}")
    elif option:
        yield Requirement(line, line)
    else:
        yield _package(line, folder, file, number)


def _option(line: str) -> tuple[str, str]:
    """The option that a line begins with, and its value; two empty texts if it is a package."""
    if not line.startswith("-"):
        return "", ""
    if line.startswith("--"):
        name, _, value = line.replace("=", " ", 1).partition(" ")
    else:
        name, value = line[:2], line[2:]
    return name, value.strip().strip("'\"")


def _package(line: str, folder: Path, file: str, number: int | None) -> Requirement:
    """A package by its name, or by an archive on this machine."""
    name, marker, rest = line.partition(";")
    named, at, target = name.partition(" @ ")
    text = (target if at else named).strip()
    is_local = text.startswith(("./", "../", "/", "~", "file:")) or text.endswith(_ARCHIVES)
    if not is_local or ("://" in text and not text.startswith("file:")):
        return Requirement(line, line)
    place = unquote(text.removeprefix("file://")) if text.startswith("file:") else text
    path = (folder / Path(place).expanduser()).absolute()
    if path.is_dir():
        message = f"the requirement {text} is a folder, which changes after it is installed"
        raise ConfigError(Problem(message, "build a wheel of it, and name that", file, number))
    try:
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        message = f"cannot read the requirement {text}: {error.strerror}"
        raise ConfigError(Problem(message, "", file, number)) from error
    place = f"{named.strip()} @ {path.as_uri()}" if at else path.as_uri()
    return Requirement(f"{place}{marker and ' '}{marker}{rest}", f"{path.name} {digest} {rest}")
