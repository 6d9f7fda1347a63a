"""The cluster's ordinary users: accounts that its hosts have and this machine has not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.layout import LAB, USERS, Layout
from tests.cluster.processes import call


def write_accounts(layout: Layout) -> None:
    """Takes them into the hosts' /etc, in place of this machine's of these names and numbers."""
    ids = {user: layout.uid(user) for user in USERS}
    users = [f"{user}:x:{uid}:{uid}::{layout.home(user)}:/bin/bash" for user, uid in ids.items()]
    groups = [f"{LAB}:x:{layout.gid}:{','.join(USERS)}", *(f"{u}:x:{n}:" for u, n in ids.items())]
    _replace(layout.etc / "passwd", ids, users)
    _replace(layout.etc / "group", {LAB: layout.gid, **ids}, groups)
    # sshd takes an account whose password begins with "!" as locked.
    _replace(layout.etc / "shadow", dict.fromkeys(ids), [f"{user}:*:::::::" for user in USERS])


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
    for user in USERS:
        _make_home(layout, user)
    layout.shared.mkdir()
    os.chown(layout.shared, 0, layout.gid)
    layout.shared.chmod(0o3777)


def _make_home(layout: Layout, user: str) -> None:
    home, key, uid = layout.home(user), layout.key(user), layout.uid(user)
    ssh = home / ".ssh"
    ssh.mkdir(parents=True)
    call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", user, "-f", str(key)])
    keys = ssh / "authorized_keys"
    shutil.copy(key.with_suffix(".pub"), keys)
    for path, gid, mode in ((home, layout.gid, 0o750), (ssh, uid, 0o700), (keys, uid, 0o600)):
        os.chown(path, uid, gid)
        path.chmod(mode)
