"""The cluster's ordinary users: accounts of this machine, made by `up` and removed by `down`."""

from __future__ import annotations

import grp
import os
import pwd
import shutil

from tests.cluster.failure import ClusterError
from tests.cluster.layout import LAB, USERS, Layout, User
from tests.cluster.processes import call

_MARK = "hpcrun test cluster"
"""The comment in /etc/passwd by which an account is known as ours."""


def check_accounts() -> None:
    """ClusterError if accounts of these names or numbers exist that this tool did not make."""
    for user in USERS:
        for entry in (_named(user.name), _numbered(user.uid)):
            if entry is not None and not _is_ours(entry, user):
                raise ClusterError(
                    f"this machine already has an account {entry.pw_name} ({entry.pw_uid}) that is"
                    " not the test cluster's; the test cluster needs that name and number"
                )
    for name, gid in (LAB, *USERS):
        for group in (_group_named(name), _group_numbered(gid)):
            if group is not None and (group.gr_name, group.gr_gid) != (name, gid):
                raise ClusterError(
                    f"this machine already has a group {group.gr_name} ({group.gr_gid}) that is"
                    " not the test cluster's; the test cluster needs that name and number"
                )


def our_uids() -> list[int]:
    """The numbers of the accounts that this tool made and that exist."""
    return [user.uid for user in USERS if _exists(user)]


def homes() -> list[str]:
    """The homes of the accounts that exist: they tell which cluster an account belongs to."""
    return [pwd.getpwnam(user.name).pw_dir for user in USERS if _exists(user)]


def make_accounts(layout: Layout) -> None:
    """The group, the users, their homes and SSH keys, and the folder that they share."""
    call(["groupadd", "--gid", str(LAB.gid), LAB.name])
    layout.ssh.mkdir(mode=0o700)
    for user in USERS:
        # useradd chooses a number of its own for a user's group when the user's is above UID_MAX.
        call(["groupadd", "--gid", str(user.uid), user.name])
        call(
            [
                *("useradd", "--uid", str(user.uid), "--gid", user.name, "--groups", LAB.name),
                *("--home-dir", str(layout.home(user.name)), "--no-create-home", "--no-log-init"),
                # sshd takes an account whose password begins with "!" as locked.
                *("--shell", "/bin/bash", "--comment", _MARK, "--password", "*", user.name),
            ]
        )
        _make_home(layout, user)
    layout.shared.mkdir()
    os.chown(layout.shared, 0, LAB.gid)
    layout.shared.chmod(0o3777)


def _make_home(layout: Layout, user: User) -> None:
    home, key = layout.home(user.name), layout.key(user.name)
    ssh = home / ".ssh"
    ssh.mkdir(parents=True)
    call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", user.name, "-f", str(key)])
    keys = ssh / "authorized_keys"
    shutil.copy(key.with_suffix(".pub"), keys)
    for path, gid, mode in (
        (home, LAB.gid, 0o750),
        (ssh, user.uid, 0o700),
        (keys, user.uid, 0o600),
    ):
        os.chown(path, user.uid, gid)
        path.chmod(mode)


def remove_accounts() -> None:
    """Removes the users and the group, as far as they are ours."""
    for user in USERS:
        if _exists(user):
            call(["userdel", "--force", user.name])
        if (group := _group_named(user.name)) is not None and group.gr_gid == user.uid:
            call(["groupdel", user.name])
    if (group := _group_named(LAB.name)) is not None and group.gr_gid == LAB.gid:
        call(["groupdel", LAB.name])


def _exists(user: User) -> bool:
    entry = _named(user.name)
    return entry is not None and _is_ours(entry, user)


def _is_ours(entry: pwd.struct_passwd, user: User) -> bool:
    return (entry.pw_name, entry.pw_uid, entry.pw_gecos) == (user.name, user.uid, _MARK)


def _named(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _numbered(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _group_named(name: str) -> grp.struct_group | None:
    try:
        return grp.getgrnam(name)
    except KeyError:
        return None


def _group_numbered(gid: int) -> grp.struct_group | None:
    try:
        return grp.getgrgid(gid)
    except KeyError:
        return None
