"""Setting up a workspace that a group shares, by an ordinary user who is in the group.

    <workspace>    2750    its owner's: nobody else can put another users/ in its place
    users/         3770    each member can make one folder, and remove only that one

For everybody to read, 5 stands at the end. What the file system made of it is looked at afterwards.
"""

from __future__ import annotations

import contextlib
import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hpcrun.errors import ConfigError, Problem, StoreError
from hpcrun.faults import told
from hpcrun.layout import USERS
from hpcrun.rights import kept_to
from hpcrun.store.policy import Policy, encode, read_policy
from hpcrun.store.publishing import replace
from hpcrun.store.settings import NAME, read_settings
from hpcrun.store.users import is_theirs, login_of

_DEFAULT_ACL = "system.posix_acl_default"


class Setup(NamedTuple):
    """What became of it: what was changed, and what stands in the way of members; a line each."""

    changed: tuple[str, ...]
    warnings: tuple[str, ...]


def set_up(workspace: Path, policy: Policy) -> Setup:
    """Makes a workspace for a group, or makes one follow a policy; a second time nothing happens.

    ConfigError: there is no such group, or this user is not in it. StoreError: the folder is
    another's or holds something else, or the file system does not do what is needed.
    """
    assert policy.group is not None and policy.umask is not None
    gid = _group_of_ours(policy.group)
    _expect_free(workspace, policy)
    changed: list[str] = []
    with told(f"set up {workspace}"):
        workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        users = workspace / USERS
        own = 0o2777 & ~policy.umask
        users.mkdir(mode=0o700, exist_ok=True)
        for folder, mode in ((workspace, own & ~0o22), (users, own | 0o1070)):
            changed += _made_so(folder, gid, mode)
        before = _settings(workspace)
        if before.get("policy") is None or read_policy(workspace) != policy:
            with kept_to(str(workspace)):
                replace(workspace / NAME, encode(policy, before))
            private = "private" if policy.private else "not private"
            asked = f"umask {policy.umask:04o}, runs {private} by default"
            changed.append(f"{workspace / NAME}: group {policy.group}, {asked}")
        with contextlib.suppress(FileNotFoundError):
            (workspace / NAME).chmod(0o666 & ~policy.umask)
        _probe(users, gid, policy)
    return Setup(tuple(changed), (*_barred(workspace, gid), *_other_rules(users, policy)))


def _group_of_ours(name: str) -> int:
    try:
        gid = grp.getgrnam(name).gr_gid
    except KeyError:
        hint = f"you are in {', '.join(_own_groups())}"
        raise ConfigError(Problem(f"there is no group {name!r}", hint)) from None
    if os.geteuid() != 0 and gid not in (os.getegid(), *os.getgroups()):
        hint = f"you are in {', '.join(_own_groups())}; a new membership counts after a new login"
        raise ConfigError(Problem(f"you are not in group {name!r}", hint))
    return gid


def _own_groups() -> Iterator[str]:
    for gid in sorted({os.getegid(), *os.getgroups()}):
        try:
            yield grp.getgrgid(gid).gr_name
        except KeyError:
            yield str(gid)


def _expect_free(workspace: Path, policy: Policy) -> None:
    """StoreError unless the folder can become this user's workspace, or is one."""
    try:
        with told(f"read {workspace}"):
            found, names = workspace.stat(), set(os.listdir(workspace))
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return
        raise
    if found.st_uid != os.geteuid():
        whose = login_of(found.st_uid)
        known = read_policy(workspace) if NAME in names else Policy()
        hint = f"only {whose} can set it up; name a folder of your own"
        if known == policy:
            hint = f"it is set up for {policy.group} already: hpcrun init -w {workspace}"
        raise StoreError(f"{workspace} belongs to {whose}", hint)
    if names and not names & {NAME, USERS}:
        message = f"{workspace} is not empty, and no workspace"
        raise StoreError(message, "name a new folder: its rights will be changed")


def _made_so(folder: Path, gid: int, mode: int) -> Iterator[str]:
    """Gives a folder its group and mode; tells what was another."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(f"{folder} is a link", "name the folder itself, or remove the link")
    if found.st_uid != os.geteuid():
        raise StoreError(f"{folder} belongs to {login_of(found.st_uid)}", "they must set it up")
    if _has_default_acl(folder):
        os.removexattr(folder, _DEFAULT_ACL)
        yield f"{folder}: its default ACL is removed, which would stand above the policy"
    if found.st_gid != gid:
        os.chown(folder, -1, gid)
        yield f"{folder}: group {grp.getgrgid(gid).gr_name}"
    if stat.S_IMODE(found.st_mode) != mode or found.st_gid != gid:
        folder.chmod(mode)
        yield f"{folder}: mode {mode:o}"
    now = folder.lstat()
    if (stat.S_IMODE(now.st_mode), now.st_gid) != (mode, gid):
        raise StoreError(
            f"{folder} has mode {stat.S_IMODE(now.st_mode):o} where {mode:o} was set",
            "this file system does not keep the sticky or the setgid bit: choose another folder",
        )


def _has_default_acl(folder: Path) -> bool:
    try:
        return bool(os.getxattr(folder, _DEFAULT_ACL))
    except OSError:
        return False  # none, or a file system without


def _settings(workspace: Path) -> dict[str, object]:
    return read_settings(workspace) if (workspace / NAME).exists() else {}


def _probe(users: Path, gid: int, policy: Policy) -> None:
    """Does what a member's first run does, and looks at what came of it. OSError, StoreError."""
    assert policy.mode is not None
    folder = users / f".probe.{os.urandom(4).hex()}"
    within, file = folder / "within", folder / "file"
    folder.mkdir(mode=policy.mode & 0o777)
    try:
        found = folder.lstat()
        if found.st_gid != gid or not found.st_mode & stat.S_ISGID:
            raise StoreError(
                f"a folder in {users} does not get its group",
                "this file system does not honour the setgid bit: choose another folder",
            )
        folder.chmod(policy.mode)
        with kept_to(str(folder)):
            within.mkdir()
            file.touch()
        for path, mode in ((within, policy.mode), (file, policy.mode & 0o666)):
            found = path.lstat()
            if (stat.S_IMODE(found.st_mode), found.st_gid) != (mode, gid):
                given = f"mode {stat.S_IMODE(found.st_mode):o} and group {found.st_gid}"
                raise StoreError(
                    f"what is made in {users} gets {given}, not {mode:o} and {gid}",
                    "the file system has rules of its own (ACLs?): choose another folder",
                )
    finally:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
        with contextlib.suppress(FileNotFoundError):
            within.rmdir()
        folder.rmdir()


def _barred(workspace: Path, gid: int) -> Iterator[str]:
    """The folders above it through which the group cannot come, so far as modes tell."""
    for folder in workspace.resolve().parents:
        found = folder.stat()
        by_group = found.st_gid == gid and found.st_mode & stat.S_IXGRP
        if not by_group and not found.st_mode & stat.S_IXOTH:
            yield f"{folder} (mode {stat.S_IMODE(found.st_mode):o}) may keep the group out"


def _other_rules(users: Path, policy: Policy) -> Iterator[str]:
    """The folders of users that were made before, and do not follow the policy."""
    for folder in sorted(users.iterdir()):
        if not is_theirs(folder):
            yield f"{folder} is nobody's, and readers pass over it"
        elif stat.S_IMODE(folder.lstat().st_mode) != policy.mode:
            yield f"{folder} gets the policy's mode with its owner's next run; what is in it stays"
