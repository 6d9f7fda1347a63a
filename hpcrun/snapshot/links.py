"""Symbolic links of a source folder: where each leads within the snapshot. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from hpcrun.manifest import OWN_FOLDERS

_MOST_LINKS = 40  # Linux gives up after 40 links on one way (path_resolution(7))


class Way(enum.Enum):
    """Where a link leads: into the snapshot or a folder of the run's own, or not."""

    INSIDE = enum.auto()
    OUTSIDE = enum.auto()
    NOWHERE = enum.auto()
    CIRCLE = enum.auto()


class Names(NamedTuple):
    """The names in a snapshot; links: path → target."""

    files: Set[str]
    folders: Set[str]
    links: Mapping[str, str]

    @classmethod
    def of(cls, files: Iterable[str], links: Mapping[str, str]) -> Names:
        """The names of these files and links, and of the folders that hold them."""
        files = frozenset(files)
        folders: set[str] = set()
        for path in (*files, *links):
            folder = path.rpartition("/")[0]
            while folder and folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0]
        return cls(files, folders, links)

    def follow(self, link: str) -> Way:
        """Where a link leads, found as the system would, among these names alone."""
        *at, name = link.split("/")
        todo = [name]
        passed = 0
        while todo:
            part = todo.pop()
            if part == "..":
                if not at:
                    return Way.OUTSIDE
                at.pop()
            elif part not in ("", "."):
                here = "/".join([*at, part])
                target = self.links.get(here)
                if target is None:
                    at.append(part)
                    if not self._goes_on(here, at[0], bool(todo)):
                        return Way.NOWHERE
                elif target.startswith("/"):
                    return Way.OUTSIDE
                else:
                    todo += target.split("/")[::-1]
                    passed += 1
                if passed > _MOST_LINKS:
                    return Way.CIRCLE
        return Way.INSIDE

    def _goes_on(self, here: str, top: str, more: bool) -> bool:
        if here in self.files:
            return not more
        return here in self.folders or top in OWN_FOLDERS


def leaves(link: str, target: str) -> bool:
    """Whether a target's words alone lead out of the root: absolute, or with too many `..`."""
    depth = link.count("/")
    for part in target.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return target.startswith("/")
