"""workspace.json: what holds for all of a workspace."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcrun.faults import told
from hpcrun.store.plain import read_object
from hpcrun.store.publishing import replace

NAME = "workspace.json"


def read_settings(workspace: Path) -> dict[str, Any]:
    """All settings. StoreError: they cannot be read, or are no object."""
    return read_object(workspace / NAME)


def change_setting(workspace: Path, key: str, value: Any) -> None:
    """Gives one setting a value; all others stay, and so do the file's rights.

    The file is written aside and renamed. One that is damaged stays as it is. Of two changes in
    the same moment one may be lost. StoreError.
    """
    path = workspace / NAME
    settings: Mapping[str, Any] = {**read_settings(workspace), key: value}
    data = json.dumps(settings, indent=2, ensure_ascii=False).encode() + b"\n"
    with told(f"write {path}"):
        before = path.stat()
        replace(path, data, stat.S_IMODE(before.st_mode))
        if path.stat().st_gid != before.st_gid:
            try:
                os.chown(path, -1, before.st_gid)
            except PermissionError:
                pass  # its new owner is not in that group
