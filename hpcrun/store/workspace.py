"""The folders of a workspace and of one user in it, made where they are missing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

import hpcrun
from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import FORMAT, UserPaths
from hpcrun.rights import kept_to
from hpcrun.store.policy import Policy, give_to_group, read_policy
from hpcrun.store.publishing import publish
from hpcrun.store.settings import NAME as SETTINGS
from hpcrun.store.users import login_of, owner


def prepare(workspace: Path, own: UserPaths, private: bool = False) -> UserPaths:
    """Makes the workspace and a user's folders, where they are missing; gives the latter.

    private: also those that nobody else may see; these are given then. StoreError.
    """
    with told(f"prepare the workspace {workspace}"):
        policy = _prepare_workspace(workspace, own.user)
        root = Path(own.root)
        _make_root(root, policy)
        _expect_own(root)
        give_to_group(root, policy)
        hidden = own.private
        _make(own.root, (own.active, own.files, own.objects, own.sdk))
        if private or policy.group is not None:
            Path(hidden.root).mkdir(mode=0o700, exist_ok=True)
            _expect_own(Path(hidden.root))
            # All that will ever lie there: neither its links nor its time tell of runs in it.
            later = (hidden.runs, hidden.indexes, hidden.experiments, hidden.models)
            _make(hidden.root, (hidden.active, hidden.files, hidden.objects, *later))
    return hidden if private else own


def _prepare_workspace(workspace: Path, user: str) -> Policy:
    users = workspace / "users"
    settings = workspace / SETTINGS
    policy = read_policy(workspace)
    if not users.is_dir():
        workspace.mkdir(parents=True, exist_ok=True)
        _make_users(users, user, policy)
    mode = users.stat().st_mode
    if mode & 0o022 and not mode & stat.S_ISVTX:
        raise StoreError(
            f"in {users} (mode {stat.S_IMODE(mode):o}) others can replace your folder",
            f"its owner, {login_of(users.stat().st_uid)}, must set the sticky bit: chmod +t",
        )
    if not settings.exists():
        value = {"format": FORMAT, "hpcrun": hpcrun.__version__}
        data = json.dumps(value, indent=2).encode() + b"\n"
        # Where a file that is replaced is missing for a moment, it must not be made anew.
        publish(settings, data, verify=lambda path: None)
    policy.expect_member(workspace)
    return policy


def _make_users(users: Path, user: str, policy: Policy) -> None:
    """Every user of the workspace's group may make one folder, and remove only that one: from the
    first moment on, since others may be at work here for the first time as well.

    The first user's own is in it by then: an empty folder would give way to the next one's.
    """
    aside = users.with_name(f".{users.name}.{os.urandom(4).hex()}")
    with kept_to(str(users.parent)):
        aside.mkdir(mode=0o1777)
    try:
        above = users.parent.stat()
        if above.st_mode & stat.S_IWGRP:
            with contextlib.suppress(PermissionError):  # its maker is not in that group
                os.chown(aside, -1, above.st_gid)
            aside.chmod(0o3775)
        _make_root(aside / user, policy)
        aside.rename(users)
    except OSError:
        shutil.rmtree(aside)
        if not users.is_dir():  # else another one's was first
            raise


def _make_root(root: Path, policy: Policy) -> None:
    root.mkdir(mode=0o777 if policy.mode is None else policy.mode & 0o777, exist_ok=True)


def _make(room: str, folders: Iterable[str]) -> None:
    with kept_to(room):
        for folder in folders:
            Path(folder).mkdir(parents=True, exist_ok=True)


def _expect_own(folder: Path) -> None:
    if owner(folder) != os.getuid():
        raise StoreError(
            f"{folder} belongs to {login_of(folder.lstat().st_uid)}, not to you",
            "try again, choose another workspace, or ask its owner to remove it",
        )
