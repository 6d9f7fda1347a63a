"""Setting a workspace up for a group, once and again."""

from __future__ import annotations

import grp
import json
import os
from pathlib import Path

import pytest

from tests.commands import hpcrun

GROUP = grp.getgrgid(os.getgid()).gr_name


def policy(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "workspace.json").read_text())["policy"]
    return found


def setup(folder: Path, *words: str) -> str:
    return hpcrun("store", "setup", str(folder), "--group", GROUP, *words).stdout


def test_what_is_not_said_again_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "none"))
    folder = tmp_path / "lab"
    setup(folder)
    assert policy(folder) == {"group": GROUP, "umask": "0027", "private": False}
    assert "runs private by default" in setup(folder, "--private")
    assert "is set up" in setup(folder)
    assert policy(folder) == {"group": GROUP, "umask": "0027", "private": True}
    setup(folder, "--readable-by", "everyone")
    assert policy(folder) == {"group": GROUP, "umask": "0022", "private": True}
    assert "not private by default" in setup(folder, "--no-private")
    assert policy(folder) == {"group": GROUP, "umask": "0022", "private": False}
