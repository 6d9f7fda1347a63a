"""Setting a workspace up for a group, once and again."""

from __future__ import annotations

import grp
import json
import os
from pathlib import Path

import pytest

from hpcrun import Experiment, Run, Workspace
from hpcrun.store.sealing import seal
from hpcrun.workflow.listing import index
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


def test_the_private_room_does_not_tell_whether_there_are_runs_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    setup(tmp_path / "lab")
    experiment = Experiment(Workspace(tmp_path / "lab"), "notes")
    session = experiment.workspace.session

    def begun(private: bool) -> Run:
        with experiment.start_logging(private=private, snapshot_directory=None) as run:
            (Path(run.paths.outputs) / "model").touch()
            run.log("x", 1)
            run.register_model("m", "outputs/model")
        return run

    begun(private=False)
    room = Path(session.store.own.private.root)
    before = room.lstat()
    run = begun(private=True)
    seal(session.store.stored(run.paths))
    index(session, anew=True)
    experiment.tag("a")
    Experiment(experiment.workspace, "other").archive()
    now = room.lstat()
    assert len(list(room.rglob("*"))) > 10
    assert (now.st_nlink, now.st_mtime_ns) == (before.st_nlink, before.st_mtime_ns)
    run.delete()
    assert (room.lstat().st_nlink, room.lstat().st_mtime_ns) == (now.st_nlink, now.st_mtime_ns)
