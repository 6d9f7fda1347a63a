"""The cluster's ordinary users: accounts that its hosts have and this machine has not."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.layout import ACCOUNTS, LAB, LENA, USERS, Layout
from tests.cluster.processes import call


def write_accounts(layout: Layout) -> None:
    """Takes them into the hosts' /etc, in place of this machine's of these names and numbers."""
    ids = {user: layout.uid(user) for user in ACCOUNTS}
    users = [
        f"{user}:x:{uid}:{uid}::{layout.home(user)}:{layout.shell(user)}"
        for user, uid in ids.items()
    ]
    groups = [f"{LAB}:x:{layout.gid}:{','.join(USERS)}", *(f"{u}:x:{n}:" for u, n in ids.items())]
    _replace(layout.etc / "passwd", ids, users)
    _replace(layout.etc / "group", {LAB: layout.gid, **ids}, groups)
    # sshd takes an account whose password begins with "!" as locked.
    _replace(layout.etc / "shadow", dict.fromkeys(ids), [f"{user}:*:::::::" for user in ACCOUNTS])


def _replace(file: Path, ids: Mapping[str, int | None], lines: Sequence[str]) -> None:
    """Lines of a file of accounts, for those that have one of these names or numbers."""
    numbers = {str(number) for number in ids.values()}
    kept = [
        line
        for line in file.read_text().splitlines()
        if (words := line.split(":"))[0] not in ids and not numbers.intersection(words[2:3])
    ]
    file.write_text("\n".join((*kept, *lines)) + "\n")


def make_homes(layout: Layout) -> None:
    """Homes, SSH keys, and the folder that the users share."""
    layout.ssh.mkdir(mode=0o700)
    _make_key(layout, LENA)
    for user in USERS:
        _make_home(layout, user)
    # What stands there would spoil a protocol on standard output that took no care.
    (layout.home("carol") / ".cshrc").write_text("echo welcome to the cluster\n")
    layout.shared.mkdir()
    os.chown(layout.shared, 0, layout.gid)
    layout.shared.chmod(0o3777)


def _make_home(layout: Layout, user: str) -> None:
    home, uid = layout.home(user), layout.uid(user)
    ssh = home / ".ssh"
    ssh.mkdir(parents=True)
    _make_key(layout, user)
    keys = ssh / "authorized_keys"
    keys.write_text("".join(_public(layout, name) for name in (user, LENA)))
    for path, gid, mode in ((home, layout.gid, 0o750), (ssh, uid, 0o700), (keys, uid, 0o600)):
        os.chown(path, uid, gid)
        path.chmod(mode)


def _make_key(layout: Layout, user: str) -> None:
    file = str(layout.key(user))
    call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", user, "-f", file])


def _public(layout: Layout, user: str) -> str:
    return layout.key(user).with_suffix(".pub").read_text()
