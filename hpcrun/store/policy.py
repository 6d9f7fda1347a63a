"""The policy of a workspace that a group shares: who reads what its users write.

    workspace.json    {"format": 1, "policy": {"group": "lab", "umask": "0027", "private": false}}

It is written by `hpcrun store setup`; a workspace without one leaves all to each user's umask.
"""

from __future__ import annotations

import grp
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import hpcrun
from hpcrun.errors import StoreError
from hpcrun.faults import told
from hpcrun.layout import FORMAT, FORMATS
from hpcrun.store.formats import expect_known
from hpcrun.store.settings import NAME, read_settings

GROUP_READS, ALL_READ = 0o027, 0o022
"""The umasks there are. Nobody but a run's user ever writes to it."""


class Policy(NamedTuple):
    """group: who the workspace is for. umask: of all that is written in it. private: whether runs
    are, where nothing else is asked. None: each user's own."""

    group: str | None = None
    umask: int | None = None
    private: bool = False

    @property
    def mode(self) -> int | None:
        """The mode of a user's folder: names in it come from its user, and belong to the group."""
        return None if self.umask is None else 0o2777 & ~self.umask

    def expect_member(self, workspace: Path) -> None:
        """StoreError if this user is no member of the group."""
        if self.group is not None and not is_member(self.group):
            message = f"the workspace {workspace} is for group {self.group}, which you are not in"
            raise StoreError(message, "choose another workspace, or ask to be added to the group")


def read_policy(workspace: Path) -> Policy:
    """A workspace's policy. StoreError: workspace.json is damaged; NewerFormat."""
    try:
        value = read_settings(workspace)
    except StoreError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return Policy()
        raise
    expect_known(f"the workspace {workspace}", value.get("format"), FORMATS, value.get("hpcrun"))
    return _policy(value.get("policy"), workspace)


def _policy(told_policy: Any, workspace: Path) -> Policy:
    if told_policy is None:
        return Policy()
    try:
        group, private = told_policy["group"], told_policy["private"]
        umask = int(told_policy["umask"], 8)
        if not isinstance(group, str) or not isinstance(private, bool):
            raise TypeError(group)
    except (KeyError, TypeError, ValueError) as error:
        message = f"the policy in {workspace / NAME} is damaged: {error!r}"
        raise StoreError(message, "hpcrun store setup writes it anew") from error
    # Whatever it says, nobody writes to another user's folder.
    return Policy(group, (umask | ALL_READ) & 0o077, private)


def encode(policy: Policy, before: dict[str, Any]) -> bytes:
    """workspace.json with a policy; what else stood in it stays."""
    told_policy = {"group": policy.group, "umask": f"{policy.umask:04o}", "private": policy.private}
    value = {"hpcrun": hpcrun.__version__, **before, "format": FORMAT, "policy": told_policy}
    return json.dumps(value, indent=2).encode() + b"\n"


def is_member(group: str) -> bool:
    """Whether this process is in a group, so far as it is known here."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        return True
    return os.geteuid() == 0 or gid in (os.getegid(), *os.getgroups())


def give_to_group(folder: Path, policy: Policy) -> None:
    """Gives a folder of this user's the group and the mode of the policy. OSError, StoreError."""
    if policy.group is None or policy.mode is None:
        return
    with told(f"give {folder} to group {policy.group}"):
        found = folder.lstat()
        try:
            gid = grp.getgrnam(policy.group).gr_gid
        except KeyError:
            gid = found.st_gid
        if found.st_gid != gid:
            os.chown(folder, -1, gid, follow_symlinks=False)
        if found.st_gid != gid or found.st_mode & 0o7777 != policy.mode:
            folder.chmod(policy.mode)
