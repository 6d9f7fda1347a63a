"""Which folder of a workspace is whose.

A user's name in a workspace is the login, or `<login>-<uid>` where somebody else has taken that
name. A folder whose owner is not who its name says is nobody's, and so is a link: readers ignore
them. Runs that nobody else may see lie in `private` below it.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from hpcrun.layout import UserPaths


def login_of(uid: int) -> str:
    """A user's login by the user database (variables can say anything); else the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def own_name(workspace: Path) -> str:
    """The name in a workspace of who runs this."""
    uid = os.getuid()
    login = login_of(uid)
    try:
        found = (workspace / "users" / login).lstat()
    except OSError:
        return login  # nobody has it
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == uid
    return login if is_own else f"{login}-{uid}"


def is_theirs(folder: Path) -> bool:
    """Whether a folder belongs to the user whose name it has."""
    own = UserPaths(str(folder))
    uid = owner(folder)
    if uid is None or (own.is_private and owner(folder.parent) != uid):
        return False
    login = login_of(uid)
    return own.user in (login, f"{login}-{uid}")


def owner(folder: Path) -> int | None:
    """The uid that a folder belongs to; None if there is no folder."""
    try:
        found = folder.lstat()
    except OSError:
        return None
    return found.st_uid if stat.S_ISDIR(found.st_mode) else None
