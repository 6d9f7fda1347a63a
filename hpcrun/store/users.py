"""Which folder of a workspace is whose.

A user's name in a workspace is the login, or `<login>-<uid>` where somebody else has taken that
name. A folder whose owner is not who its name says is nobody's, and so is a link: readers ignore
them.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path


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
    folder = workspace / "users" / login
    is_free = owner(folder) == uid or not os.path.lexists(folder)
    return login if is_free else f"{login}-{uid}"


def is_theirs(folder: Path) -> bool:
    """Whether a folder belongs to the user whose name it has."""
    uid = owner(folder)
    if uid is None:
        return False
    login = login_of(uid)
    return folder.name in (login, f"{login}-{uid}")


def owner(folder: Path) -> int | None:
    """The uid that a folder belongs to; None if there is no folder."""
    try:
        found = folder.lstat()
    except OSError:
        return None
    return found.st_uid if stat.S_ISDIR(found.st_mode) else None
