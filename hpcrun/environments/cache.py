"""Environments by their content, each built once.

    environments/.build-<8 hex>/   a virtual environment; the last file in it is the marker
    environments/<key>.<n>         a link to one that is whole; n counts the builds of that content

A virtual environment holds its own path, so it is built where it stays. What makes it one that is
used is the link: made last, and by one alone, on any file system. A killed build has none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hpcrun.environments.interpreter import Interpreter
from hpcrun.environments.requirements import Requirement
from hpcrun.environments.specification import Specification
from hpcrun.faults import told

MARKER = "hpcrun-environment.json"
LOCK = "requirements.lock"
TOUCHED = 86_400
"""Seconds after which an environment is touched when it is wanted again."""

_NAME = re.compile(r"(?P<key>[0-9a-f]{16})\.(?P<number>[1-9]\d*)\Z")


class Wanted(NamedTuple):
    """An environment as it is asked for. name: for people; it is no part of the key. conda: what
    conda installs, its own interpreter too; None: it is a virtual one of `interpreter`."""

    name: str
    interpreter: Interpreter
    requirements: Sequence[Requirement]
    conda: Specification | None = None

    @property
    def asked(self) -> list[str]:
        """What was asked for, a line each, conda's packages first."""
        packages = self.conda.packages if self.conda is not None else ()
        return [*packages, *(each.line for each in self.requirements)]

    @property
    def key(self) -> str:
        """Its content: interpreter, platform and requirements; or what conda installs."""
        python = self.interpreter
        content = [python.implementation, python.version, python.platform, python.prefix]
        if self.conda is not None:
            conda = self.conda
            content = ["conda", conda.platform, *conda.channels, "", *conda.packages]
        lines = [each.content for each in self.requirements]
        return hashlib.sha256(json.dumps([content, lines]).encode()).hexdigest()[:16]


class Built(NamedTuple):
    """An environment that is whole. folder: its link, by which runs name it."""

    folder: str
    key: str
    number: int
    marker: dict[str, Any]

    @property
    def requirements(self) -> list[str]:
        """What was asked for, a line each, as pip was given it."""
        return [str(line) for line in self.marker["requirements"]]

    @property
    def lock(self) -> list[str]:
        """What is installed in it, a line each, as pip freezes it."""
        return [str(line) for line in self.marker["lock"]]


def find(key: str, rooms: Iterable[str]) -> Built | None:
    """The last build of a content in the first of the rooms that has one which can be read.

    rooms: folders of environments. One of this user's is touched: pruning spares the young.
    """
    for room in rooms:
        for built in sorted(listed(room, key), key=lambda each: -each.number):
            if os.access(f"{built.folder}/bin/python", os.X_OK):
                _touch(built)
                return built
    return None


def listed(room: str, key: str | None = None) -> list[Built]:
    """The environments of a room that are whole; of one content, if a key is given."""
    try:
        names = sorted(os.listdir(room))
    except (FileNotFoundError, PermissionError):
        return []
    except OSError:
        with told(f"list the environments in {room}"):
            raise
    found = []
    for name in names:
        match = _NAME.match(name)
        if match is None or key not in (None, match["key"]):
            continue
        folder = f"{room}/{name}"
        try:
            marker = json.loads(Path(folder, MARKER).read_text(encoding="utf-8"))
            built = Built(folder, match["key"], int(match["number"]), marker)
            found += [built] if built.lock is not None and built.requirements is not None else []
        except (OSError, ValueError, LookupError, TypeError):
            continue  # not whole, or being removed
    return found


def place(key: str, room: str) -> str:
    """Where the next build of a content will be found."""
    return f"{room}/{key}.{_last(key, room) + 1}"


def _last(key: str, room: str) -> int:
    """The greatest number that a link has, whole or not: none is ever given twice."""
    try:
        names = os.listdir(room)
    except FileNotFoundError:
        return 0
    matches = [match for match in map(_NAME.match, names) if match and match["key"] == key]
    return max((int(match["number"]) for match in matches), default=0)


def publish(built: str, folder: str) -> bool:
    """Gives a whole environment the name by which runs find it; False if that is taken. OSError."""
    link, target = Path(folder), Path(built).name
    try:
        link.symlink_to(target)
    except FileExistsError:
        # A file server that was asked twice answers so to its own link.
        return link.is_symlink() and str(link.readlink()) == target
    return True


def _touch(built: Built) -> None:
    marker = Path(built.folder, MARKER)
    try:
        if marker.stat().st_mtime < time.time() - TOUCHED:
            os.utime(marker)
    except OSError:
        pass  # another user's
