"""`hpcrun store stats`: what a history takes up, against a count of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.care import Care, hpcrun

UID = os.getuid()


@pytest.fixture
def care(tmp_path: Path) -> Care:
    return Care(tmp_path)


def stats(care: Care, *words: str) -> str:
    return hpcrun(care, "store", "stats", *words).stdout


def told(care: Care, *words: str) -> Any:
    return json.loads(stats(care, "--json", *words))


def counted(folder: Path, what: str = "") -> dict[str, int]:
    """As `du` counts: each inode once, links as links."""
    words = ["du", "--block-size=1", str(folder)]
    allocated = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    inodes = {path.lstat().st_ino: path.lstat().st_size for path in (folder, *folder.rglob("*"))}
    return {
        "inodes": len(inodes),
        "apparent": sum(inodes.values()),
        "allocated": int(allocated.splitlines()[-1].split("\t")[0]),
    }


def test_it_counts_what_du_counts(care: Care) -> None:
    sealed, live = care.sealed(0), care.make(1)
    with Path(live.outputs, "sparse").open("wb") as file:
        file.truncate(5 << 30)
    Path(live.outputs, "twin").hardlink_to(Path(live.outputs, "model"))
    Path(live.outputs, "link").symlink_to("/")
    (user,) = told(care)["users"]
    root = Path(care.own.root)
    assert user["user"] == care.store.user
    assert {name: user[name] for name in ("inodes", "apparent", "allocated")} == counted(root)
    folders = {"sealed": "runs", "files": "files", "snapshots": "snapshots", "sdk": "sdk"}
    for area, folder in folders.items():
        assert user["areas"][area] == counted(root / folder), area
    assert user["areas"]["records"] == counted(root / "active")
    assert user["apparent"] > 5 << 30 > user["allocated"] * 100
    (experiment,) = told(care)["experiments"]
    assert experiment["experiment"] == "digits"
    assert experiment["areas"]["snapshots"]["inodes"] == 0
    runs = {run["run_id"]: run for run in told(care)["runs"]}
    assert runs.keys() == {sealed.run_id, live.run_id}
    of_live = [counted(Path(folder)) for folder in (live.record, live.files)]
    for name in ("inodes", "apparent", "allocated"):
        assert runs[live.run_id][name] == sum(each[name] for each in of_live)


def test_for_people_it_says_both_sizes(care: Care) -> None:
    live = care.make(1)
    with Path(live.outputs, "sparse").open("wb") as file:
        file.truncate(5 << 30)
    lines = stats(care).splitlines()
    assert lines[0].split("\t")[:4] == ["user", "inodes", "on disk", "apparent"]
    assert lines[1].split("\t")[0] == care.store.user and lines[1].split("\t")[3] == "5.0 GiB"
    assert "GiB" not in lines[1].split("\t")[2]
    assert any(line.startswith(live.run_id) for line in lines)
    assert told(care, "-u", "nix")["users"] == []


@pytest.mark.skipif(UID == 0, reason="root reads everything")
def test_what_cannot_be_read_is_told(care: Care) -> None:
    Path(care.make(1).outputs).chmod(0)
    assert told(care)["unreadable"] == 1
