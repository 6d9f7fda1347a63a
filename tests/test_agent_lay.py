"""Laying snapshots: exact, afresh at each attempt, never through links, never hard-linked."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcrun.agent.lay import lay_out
from hpcrun.agent.setting import Snapshot
from hpcrun.errors import SnapshotError
from hpcrun.layout import RunPaths
from tests.agent_job import Job, status_of

Content = dict[str, "bytes | str"]
"""Path → what a file holds, or where a link leads (text)."""

CODE: Content = {
    "train.py": b"print('training')\n",
    "run.sh": b"#!/bin/sh\necho run\n",
    "empty": b"",
    "deep/er/data.bin": bytes(range(256)) * 8000,
    "latest.py": "train.py",
    "deep/up": "../train.py",
    "na\u00efve \u2603.txt": b"named",
    "\udcff": b"no UTF-8 in the name",
}


def store(root: Path, content: Content) -> Snapshot:
    """A snapshot as it lies in a workspace; *.sh is executable."""
    objects, entries = root / "objects", list[dict[str, Any]]()
    for path, held in content.items():
        if isinstance(held, str):
            entries.append({"path": path, "target": held})
            continue
        digest = hashlib.sha256(held).hexdigest()
        file = objects / digest[:2] / digest[2:]
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_bytes(held)
            file.chmod(0o444)
        executable = path.endswith(".sh")
        entries.append(
            {"path": path, "sha256": digest, "size": len(held), "executable": executable}
        )
    manifest = root / "manifest.json"
    manifest.write_text(json.dumps({"format": 1, "digest": "0" * 64, "entries": entries}))
    return Snapshot(str(manifest), str(objects))


def laid(folder: Path, content: Content) -> Content:
    """What lies there under the snapshot's names."""
    found: Content = {}
    for path in content:
        name = path.encode("utf-8", "surrogateescape")
        place = Path(os.fsdecode(os.fsencode(folder) + b"/" + name))
        if place.is_symlink():
            found[path] = str(place.readlink())
        else:
            found[path] = place.read_bytes()
    return found


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(str(tmp_path / "record"), str(tmp_path / "files"))


def test_everything_is_there_exactly(tmp_path: Path, paths: RunPaths) -> None:
    os.umask(0o022)
    lay_out(store(tmp_path, CODE), paths)
    files = Path(paths.files)
    assert laid(files, CODE) == CODE
    assert (files / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (files / "train.py").stat().st_mode & 0o777 == 0o644
    assert all(p.stat().st_nlink == 1 for p in files.rglob("*") if p.is_file())
    assert {"outputs", "logs", "user_logs"} <= {p.name for p in files.iterdir()}


def test_without_a_snapshot_the_folders_are_made(paths: RunPaths) -> None:
    lay_out(None, paths)
    assert {p.name for p in Path(paths.files).iterdir()} == {"outputs", "logs", "user_logs"}


def test_it_is_laid_afresh_over_what_an_attempt_left(tmp_path: Path, paths: RunPaths) -> None:
    snapshot = store(tmp_path, CODE)
    lay_out(snapshot, paths)
    files, outside = Path(paths.files), tmp_path / "outside"
    outside.mkdir()
    (outside / "er").mkdir()
    kept = {"outputs/model.bin": b"weights", "logs/events": b"1", "new.txt": b"from the script"}
    for name, data in kept.items():
        (files / name).write_bytes(data)
    (files / "train.py").write_text("changed")
    (files / "run.sh").unlink()
    (files / "run.sh").mkdir()
    (files / "run.sh" / "inner").mkdir()
    (files / "run.sh" / "inner" / "x").touch()
    (files / "run.sh" / "link").symlink_to(outside)
    (files / "latest.py").unlink()
    (files / "latest.py").write_text("a file now")
    (files / "empty").unlink()
    (files / "empty").symlink_to(outside / "never")
    (files / "deep").rename(files / "old")
    (files / "deep").symlink_to(outside)
    lay_out(snapshot, paths)
    assert laid(files, CODE) == CODE
    assert {name: (files / name).read_bytes() for name in kept} == kept
    assert [p.name for p in outside.rglob("*")] == ["er"]


def test_a_file_that_is_being_run_is_replaced(tmp_path: Path, paths: RunPaths) -> None:
    content: Content = {"tool.sh": Path("/bin/sleep").resolve().read_bytes()}
    snapshot = store(tmp_path, content)
    lay_out(snapshot, paths)
    running = subprocess.Popen([f"{paths.files}/tool.sh", "60"])
    try:
        lay_out(snapshot, paths)
        assert laid(Path(paths.files), content) == content
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()


def test_it_stops_when_asked(tmp_path: Path, paths: RunPaths) -> None:
    answers = iter([False, False, True])
    lay_out(store(tmp_path, CODE), paths, lambda: next(answers))
    assert len(list(Path(paths.files).iterdir())) == 2 + len(("outputs", "logs", "user_logs"))


@pytest.mark.parametrize("path", ["../escape", "/tmp/escape", "deep/../../escape"])
def test_nothing_is_laid_outside(tmp_path: Path, paths: RunPaths, path: str) -> None:
    with pytest.raises(SnapshotError, match="leads outside"):
        lay_out(store(tmp_path, {path: b"bad"}), paths)


def test_two_thousand_files(tmp_path: Path, paths: RunPaths) -> None:
    number = random.Random(1)
    content: Content = {
        f"package/part{n % 40}/module{n}.py": number.randbytes(number.randrange(4000))
        for n in range(2000)
    }
    lay_out(store(tmp_path, content), paths)
    assert laid(Path(paths.files), content) == content


# -- under the agent ----------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path: Path, sdk: Path) -> Job:
    return Job(tmp_path, sdk).make(snapshot=store(tmp_path, CODE)._asdict())


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_the_command_runs_in_its_snapshot(job: Job, locale: str) -> None:
    assert job.run("./run.sh", LC_ALL=locale) == 0
    assert laid(job.files, CODE) == CODE


def test_a_requeue_finds_its_code_as_it_was(job: Job) -> None:
    change = "echo broken > train.py; rm -r deep run.sh; echo 7 > outputs/checkpoint"
    assert job.run("sh", "-c", change) == 0
    assert job.again("1.1").run("./run.sh") == 0
    assert laid(job.files, CODE) == CODE
    assert (job.files / "outputs/checkpoint").read_text() == "7\n"


def damage(job: Job, how: str) -> None:
    objects = [p for p in (job.root / "objects").rglob("*") if p.is_file()]
    largest = max(objects, key=lambda p: p.stat().st_size)
    if how == "gone":
        largest.unlink()
    elif how == "short":
        largest.chmod(0o644)
        os.truncate(largest, 100)
    elif how == "manifest":
        (job.root / "manifest.json").write_text("{")
    else:
        (job.files / "train.py").mkdir()
        (job.files / "outputs").touch()


@pytest.mark.parametrize("how", ["gone", "short", "manifest", "outputs"])
def test_a_snapshot_that_cannot_be_laid_is_a_failed_launch(job: Job, how: str) -> None:
    damage(job, how)
    assert job.run("touch", "started") == 1
    ended = job.fact("ended").data
    assert (ended["cause"], ended["exit_code"]) == ("launch_failed", 1)
    assert ended["evidence"][0] in job.batch_log.read_text()
    assert not (job.files / "started").exists()
    assert job.facts("running") == []


def test_what_is_told_to_stop_while_it_is_laid_begins_no_command(job: Job) -> None:
    """The stop is the last of the signals that came. A pipe in place of a file keeps it waiting."""
    objects = (path for path in (job.root / "objects").rglob("*") if path.is_file())
    first = next(path for path in objects if path.read_bytes() == CODE["train.py"])
    content = first.read_bytes()
    first.unlink()
    os.mkfifo(first)
    with job.start("touch", "started") as agent:
        with first.open("wb") as pipe:  # now it is read
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
                agent.send_signal(number)
            pipe.write(content)
        assert status_of(agent) == 128 + signal.SIGTERM
    assert not (job.files / "started").exists()
    assert job.facts("running") == []


def test_a_job_whose_agent_cannot_run_lays_it_by_itself(job: Job) -> None:
    words = [*job.agent, "lay"]
    assert subprocess.run(words, env=job.environment()).returncode == 0
    assert laid(job.files, CODE) == CODE
    assert stat.S_IMODE((job.files / "run.sh").stat().st_mode) & 0o100
