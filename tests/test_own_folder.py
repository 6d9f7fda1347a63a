"""The folders of commands that are shown elsewhere: what is left of those that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcrun.cli import own_folder
from hpcrun.errors import StoreError

HOLD = """\
import sys, pathlib
from hpcrun.cli import own_folder

folder = own_folder.named()
own_folder.make(folder)
own_folder.make(folder)
(folder / "beside").mkdir()
print(folder, flush=True)
sys.stdin.read()
"""


def held(killed: bool) -> tuple[Path, subprocess.Popen[str]]:
    """The folder of a command that goes on, or was killed; it is an hour old."""
    going = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert going.stdout is not None
    folder = Path(going.stdout.readline().strip())
    if killed:
        going.send_signal(signal.SIGKILL)
        going.communicate()
    aged(folder)
    return folder, going


def aged(folder: Path) -> Path:
    before = time.time() - own_folder.OLD - 60
    os.utime(folder, (before, before))
    return folder


def test_what_is_left_of_a_killed_command_is_removed_by_the_next_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    held(killed=True)
    alive, going = held(killed=False)
    with going:
        young = own_folder.named()
        never_held = own_folder.named()
        elsewhere = tmp_path / own_folder.named().name.replace(os.uname().nodename, "another")
        others = {young, elsewhere, tmp_path / "hpcrun-of-mine"}
        for folder in (*others, never_held):
            folder.mkdir()
        aged(elsewhere), aged(tmp_path / "hpcrun-of-mine"), aged(never_held)
        if os.geteuid() == 0:
            theirs = own_folder.named()
            theirs.mkdir()
            os.chown(aged(theirs), 65534, 65534)
            others.add(theirs)
        own = own_folder.named()
        own_folder.make(own)
        assert {*tmp_path.iterdir()} == {own, alive, *others}
        assert (alive / "beside").is_dir()
        going.communicate("")


def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    with pytest.raises(StoreError, match=r"cannot write .*/none/hpcrun-on-.* on .*: No such file"):
        own_folder.make(own_folder.named())
