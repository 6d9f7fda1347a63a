"""What a run history takes up: by user, by experiment, and by run."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hpcrun.layout import RUN_ID, UserPaths, experiment_of, sealed_of
from hpcrun.store import FileStore
from hpcrun.store.stored import RETIRED
from hpcrun.workflow.care.walk import walk

AREAS = {
    "active": "records",
    "runs": "sealed",
    "files": "files",
    "snapshots": "snapshots",
    "index": "index",
    "models": "models",
    "sdk": "sdk",
    "environments": "environments",
    "experiments": "records",
}
"""Folder of a user → what it counts as; everything else is `other`."""

LARGEST = 10
"""Runs that are told of one by one."""


class Usage(NamedTuple):
    """inodes: files and folders. apparent: bytes that can be read. allocated: bytes on the disk:
    fewer where files have holes, more where blocks are not full."""

    inodes: int = 0
    apparent: int = 0
    allocated: int = 0

    def with_more(self, other: Usage) -> Usage:
        """Of both together."""
        return Usage(*(mine + its for mine, its in zip(self, other, strict=True)))


Areas = dict[str, Usage]
"""What it takes up, by what it counts as."""


class HistoryUsage(NamedTuple):
    """users, experiments, runs: by name. unreadable: folders that could not be looked into."""

    users: dict[str, Areas]
    experiments: dict[str, Areas]
    runs: dict[str, Usage]
    unreadable: int


def total(areas: Areas) -> Usage:
    """Of all areas together."""
    usage = Usage()
    for each in areas.values():
        usage = usage.with_more(each)
    return usage


def usage_of(store: FileStore, users: list[str], tell: Callable[[int], None]) -> HistoryUsage:
    """What the histories of users take up, as far as they may be seen from here.

    Links are not followed; a file with several names counts once, where it is met first. tell:
    hears how many inodes were seen.
    """
    walk = _Walk(tell)
    by_user: dict[str, Areas] = {}
    by_experiment: dict[str, Areas] = defaultdict(dict)
    by_run: dict[str, Usage] = defaultdict(Usage)
    for user in users:
        areas = by_user[user] = {}
        for top, parts, usage in (found for room in store.rooms(user) for found in walk.room(room)):
            area = AREAS.get(top, "other")
            areas[area] = areas.get(area, Usage()).with_more(usage)
            run_id = _run_in(top, parts)
            if run_id is not None:
                of_experiment = by_experiment[experiment_of(run_id)]
                of_experiment[area] = of_experiment.get(area, Usage()).with_more(usage)
                by_run[run_id] = by_run[run_id].with_more(usage)
    return HistoryUsage(by_user, dict(by_experiment), dict(by_run), walk.unreadable)


def largest(runs: dict[str, Usage]) -> list[tuple[str, Usage]]:
    """The runs that take up most of the disk, largest first."""
    return sorted(runs.items(), key=lambda run: (-run[1].allocated, run[0]))[:LARGEST]


def _run_in(top: str, parts: list[str]) -> str | None:
    """The run that something belongs to. parts: of its path below the folder `top` of a room."""
    run_id = None
    if top == "active" and parts:
        run_id = parts[0]
        if run_id.startswith(RETIRED):
            run_id = run_id[len(RETIRED) :].rpartition(".")[0]
    elif top == "files" and len(parts) > 1:
        run_id = parts[1]
    elif top == "runs" and len(parts) > 1:
        sealed = sealed_of(parts[1])
        run_id = sealed[0] if sealed is not None else None
    return run_id if run_id is not None and RUN_ID.match(run_id) else None


class _Walk:
    """Looks at every file and folder once."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self.unreadable = 0
        self._tell = tell
        self._seen: set[tuple[int, int]] = set()
        self._count = 0

    def room(self, own: UserPaths) -> Iterator[tuple[str, list[str], Usage]]:
        """(folder of the room, parts of a path below it, what that takes up by itself).

        The room itself is included, and a room within it is not.
        """
        for path, status in walk(own.root, self._miss, leave_out=own.private.root):
            top, *parts = path[len(own.root) + 1 :].split("/")
            yield top, parts, self._usage(status)

    def _miss(self, path: str) -> None:
        self.unreadable += 1

    def _usage(self, status: os.stat_result) -> Usage:
        self._count += 1
        if not self._count % 10_000:
            self._tell(self._count)
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if (status.st_dev, status.st_ino) in self._seen:
                return Usage()
            self._seen.add((status.st_dev, status.st_ino))
        # Blocks of 512 bytes, whatever the file system's own are (POSIX leaves it open, Linux not).
        return Usage(1, status.st_size, status.st_blocks * 512)
