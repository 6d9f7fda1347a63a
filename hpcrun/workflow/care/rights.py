"""Owners and permissions: against what hpcrun itself gives.

All below a user's folder is that user's. What hpcrun makes has the permissions that the umask
leaves: whether a group reads or writes is its members' affair, but where the workspace has a policy
the group writes nowhere; nobody else writes, ever. What is private is its user's alone. Snapshots
are read-only. Below outputs/ and logs/ a script may do as it likes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hpcrun.layout import UserPaths
from hpcrun.store.policy import Policy
from hpcrun.store.users import is_theirs, login_of
from hpcrun.workflow.care.finding import Chmod, Finding, Grade
from hpcrun.workflow.care.walk import Entry, walk

OTHERS = stat.S_IRWXG | stat.S_IRWXO

SHARED = 0o3775
"""Of users/ in a workspace whose group may write: each makes a folder, and removes only that."""


def rights_of_workspace(workspace: Path) -> Iterator[Finding]:
    """What is wrong with the folder of all users, and whose folders have others' names."""
    users = workspace / "users"
    try:
        mode, owner = users.lstat().st_mode, users.lstat().st_uid
    except OSError:
        return
    open_to_many = mode & (stat.S_IWGRP | stat.S_IWOTH)
    if mode & stat.S_IWOTH or (open_to_many and not mode & stat.S_ISVTX):
        message = f"has mode {stat.S_IMODE(mode):o}: others may remove or replace users' folders"
        cure = f"{login_of(owner)}: chmod {SHARED:o} {users}"
        mend = Chmod(SHARED) if owner == os.getuid() else None
        yield Finding(Grade.WRONG, "rights", str(users), message, cure, mend)
    try:
        names = sorted(os.listdir(users))
    except OSError:
        return
    for name in names:
        if not is_theirs(users / name):
            message = "does not belong to the user that its name says; readers ignore it"
            yield Finding(Grade.NOTE, "rights", str(users / name), message)


class _Right(NamedTuple):
    """What is right in a room. uid: whose all is. denied: the permissions that nobody may have.

    is_private: whether nobody else sees it.
    """

    uid: int
    denied: int
    is_private: bool


def rights(own: UserPaths, policy: Policy) -> Iterator[Finding]:
    """What is wrong with the permissions and owners of all that hpcrun made in a room."""
    denied = stat.S_IWOTH if policy.group is None else stat.S_IWGRP | stat.S_IWOTH
    denied |= OTHERS if own.is_private else 0
    right = _Right(os.lstat(own.root).st_uid, denied, own.is_private)
    yield from _of(own.root, right)
    for area in ("active", "runs", "index", "sdk", "experiments", "models"):
        yield from _below(f"{own.root}/{area}", right)
    yield from _below(own.snapshots, right, is_fixed=True)
    yield from _of_files(own, right)


def _of_files(own: UserPaths, right: _Right) -> Iterator[Finding]:
    """The folders that lead to what runs wrote, and no further."""
    yield from _of(own.files, right)
    for month in _folders(own.files):
        yield from _of(month, right)
        for run in _folders(month):
            yield from _of(run, right)
            for name in ("outputs", "logs", "user_logs", "uploads"):
                yield from _of(f"{run}/{name}", right)


def _folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.path for e in entries if e.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _below(folder: str, right: _Right, is_fixed: bool = False) -> Iterator[Finding]:
    """Of all in a folder, itself included. is_fixed: whether files never change."""
    for entry in walk(folder):
        yield from _judged(entry, right, is_fixed and not entry.is_folder)


def _of(path: str, right: _Right) -> Iterator[Finding]:
    with contextlib.suppress(OSError):
        yield from _judged(Entry(path, os.lstat(path)), right, False)


def _judged(entry: Entry, of: _Right, is_fixed: bool) -> Iterator[Finding]:
    (path, found), uid = entry, of.uid
    if found.st_uid != uid:
        message = f"belongs to {login_of(found.st_uid)}, not to {login_of(uid)}"
        cure = f"look at it; its owner or {login_of(uid)} may remove it"
        yield Finding(Grade.WRONG, "rights", path, message, cure)
        return
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        return
    mode = stat.S_IMODE(found.st_mode)
    needed = 0o700 if stat.S_ISDIR(found.st_mode) else 0o400 if is_fixed else 0o600
    denied = of.denied | (0o222 if is_fixed else 0)
    right = (mode | needed) & ~denied
    if right != mode:
        what = "others may write to it" if mode & denied else "its owner has no right to it"
        if is_fixed and not mode & of.denied and mode & denied:
            what = "it is not read-only"
        if of.is_private and mode & OTHERS:
            what = "it is private, and open to others"
        cure = f"chmod {right:o} {path}"
        message = f"has mode {mode:o}: {what}"
        yield Finding(Grade.WRONG, "rights", path, message, cure, Chmod(right))
