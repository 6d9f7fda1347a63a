"""Pushing into a real store: killed, side by side, onto a full disk; and laying out again."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun.errors import SnapshotError, StoreError
from hpcrun.layout import UserPaths
from hpcrun.manifest import Entry, Link, Manifest, object_name
from hpcrun.snapshot import push, read_manifest, restore, scan
from tests.agent_job import small_disk
from tests.ordinary_user import as_ordinary_user

PUSH = """
import sys, time
from pathlib import Path
from hpcrun.layout import UserPaths
from hpcrun.manifest import Limits
from hpcrun.snapshot import push, scan
source, store = Path(sys.argv[1]), UserPaths(sys.argv[2])
manifest = scan(source)
print("begins", flush=True)
sys.stdin.readline()
print("pushed" if push(manifest, source, store) else "was there", flush=True)
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 30, seed=1)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("part1/1.py")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> UserPaths:
    return UserPaths(str(tmp_path / "store"))


def fill(folder: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(count):
        file = folder / f"part{number % 7}" / f"{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(rng.randbytes(rng.randint(1, 20_000)))


def pusher(source: Path, store: UserPaths) -> subprocess.Popen[str]:
    """A process that has scanned, and pushes when it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-c", PUSH, str(source), store.root],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    return process


def objects(store: UserPaths) -> Iterator[Path]:
    """The contents that a reader can see."""
    for folder in sorted(Path(store.objects).glob("*")):
        yield from (file for file in sorted(folder.iterdir()) if not file.name.startswith("."))


def asides(store: UserPaths) -> list[Path]:
    return list(Path(store.snapshots).rglob(".*"))


def check_store(store: UserPaths) -> int:
    """Proves each content and each manifest that can be seen; gives the number of manifests."""
    known = set()
    for file in objects(store):
        known.add(file.parent.name + file.name)
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.parent.name + file.name
    manifests = list(Path(store.snapshots).glob("*.json"))
    for file in manifests:
        manifest = read_manifest(store, file.stem)
        assert {entry.sha256 for entry in manifest.files} <= known
    return len(manifests)


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "in/../../x", "up/x"])
def test_a_manifest_whose_links_lead_outside_is_not_read(target: str, store: UserPaths) -> None:
    manifest = Manifest.of([Link("a", target), Link("in", "."), Link("up", "in/..")])
    file = Path(store.manifest(manifest.digest))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(manifest.encode())
    with pytest.raises(StoreError, match="leads outside"):
        read_manifest(store, manifest.digest)


# -- pushing --------------------------------------------------------------------------------------


def test_a_snapshot_comes_in_once_and_out_as_it_was(
    source: Path, store: UserPaths, tmp_path: Path
) -> None:
    manifest = scan(source)
    assert push(manifest, source, store) is True
    assert push(manifest, source, store) is False
    assert check_store(store) == 1
    assert asides(store) == []
    assert read_manifest(store, manifest.digest) == manifest
    restore(read_manifest(store, manifest.digest), Path(store.objects), tmp_path / "new")
    assert scan(tmp_path / "new") == manifest
    assert (tmp_path / "new" / "link").readlink() == Path("part1/1.py")


def test_objects_are_read_only_and_shared(source: Path, store: UserPaths) -> None:
    (source / "copy").write_bytes((source / "run.sh").read_bytes())
    umask = os.umask(0o022)
    try:
        push(scan(source), source, store)
    finally:
        os.umask(umask)
    files = list(objects(store))
    assert len(files) == 31, "two files with one content are one object"
    assert {file.stat().st_mode & 0o777 for file in files} == {0o444}
    before = {file: file.stat().st_ino for file in files}
    (source / "part1" / "1.py").write_text("changed")
    assert push(scan(source), source, store) is True
    assert before.items() <= {file: file.stat().st_ino for file in objects(store)}.items()
    assert check_store(store) == 2


def test_an_object_that_is_wanted_again_is_touched(source: Path, store: UserPaths) -> None:
    push(scan(source), source, store)
    week_ago = time.time() - 7 * 86_400
    files = [*objects(store), Path(store.manifest(scan(source).digest))]
    for file in files:
        os.utime(file, (week_ago, week_ago))
    (source / "more").write_text("more")
    push(scan(source), source, store)
    (source / "more").unlink()
    assert push(scan(source), source, store) is False
    assert all(file.stat().st_mtime > week_ago + 86_400 for file in files)


def test_a_damaged_object_is_brought_again(source: Path, store: UserPaths) -> None:
    manifest = scan(source)
    push(manifest, source, store)
    file = next(objects(store))
    file.unlink()
    file.write_bytes(b"")
    Path(store.manifest(manifest.digest)).unlink()
    assert push(manifest, source, store) is True
    assert check_store(store) == 1


def test_a_file_that_changed_after_the_scan_is_refused(source: Path, store: UserPaths) -> None:
    manifest = scan(source)
    (source / "run.sh").write_text("other")
    with pytest.raises(SnapshotError, match=r"run\.sh changed after it was scanned") as caught:
        push(manifest, source, store)
    assert caught.value.transient
    (source / "run.sh").unlink()
    with pytest.raises(SnapshotError, match=r"cannot read run\.sh of the source folder: No such"):
        push(manifest, source, store)
    (source / "run.sh").symlink_to("/etc/hostname")
    with pytest.raises(SnapshotError, match=r"cannot read run\.sh of the source folder: Too many"):
        push(manifest, source, store)
    assert check_store(store) == 0
    assert asides(store) == []


def test_odd_names_come_in_and_out(tmp_path: Path, store: UserPaths) -> None:
    source = tmp_path / "odd"
    for name in map(os.fsdecode, (b"new\nline", b"\xff\xfe", b"caf\xc3\xa9", b"-rf", b"*")):
        (source / name).mkdir(parents=True)
        (source / name / name).write_bytes(os.fsencode(name))
    (source / os.fsdecode(b"l\xff")).symlink_to(os.fsdecode(b"\xff\xfe/\xff\xfe"))
    manifest = scan(source)
    push(manifest, source, store)
    restore(read_manifest(store, manifest.digest), Path(store.objects), tmp_path / "new")
    assert scan(tmp_path / "new") == manifest


# -- faults ---------------------------------------------------------------------------------------


def test_a_pusher_that_is_killed_leaves_no_half_snapshot(tmp_path: Path, store: UserPaths) -> None:
    source = tmp_path / "source"
    fill(source, 300, seed=2)
    manifest = scan(source)
    whole = UserPaths(str(tmp_path / "whole"))
    began = time.monotonic()
    push(manifest, source, whole)
    seconds = time.monotonic() - began
    rng = random.Random(20)
    kills = 0
    for _ in range(100):
        process = pusher(source, store)
        assert process.stdin is not None and process.stdout is not None
        print(file=process.stdin, flush=True)
        time.sleep(rng.uniform(0, seconds))
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL and process.stdout.read() == ""
        process.stdin.close()
        process.stdout.close()
        copied = len(list(objects(store)))
        published = check_store(store)
        kills += killed and copied > 0 and not published
        if kills >= 12:
            break
        if copied > 150:  # else the next one finds what this one left
            shutil.rmtree(store.root)
    assert kills >= 12
    assert push(manifest, source, store) is True
    assert check_store(store) == 1


def test_pushers_at_once_are_all_right(tmp_path: Path, store: UserPaths) -> None:
    for seed in range(3):
        one, other = tmp_path / f"one{seed}", tmp_path / f"other{seed}"
        fill(one, 60, seed)
        shutil.copytree(one, other)
        fill(other, 5, seed + 100)
        processes = [pusher(source, store) for source in (one, other, one, other)]
        for process in processes:
            assert process.stdin is not None
            print(file=process.stdin, flush=True)
        answers = [process.communicate()[0] for process in processes]
        assert {process.returncode for process in processes} == {0}
        assert set(answers) <= {"pushed\n", "was there\n"}
        assert check_store(store) == 2 * (seed + 1)
    assert asides(store) == []


def test_contents_are_on_the_disk_before_the_manifest(tmp_path: Path, store: UserPaths) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    source = tmp_path / "source"
    fill(source, 8, seed=3)
    log = tmp_path / "calls"
    words = [strace, "-f", "-y", "-o", str(log), "-e", "trace=fsync,rename"]
    traced = subprocess.run(
        [*words, sys.executable, "-c", PUSH, str(source), store.root],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        input="\n",
        capture_output=True,
        text=True,
    )
    if "ptrace" in traced.stderr.lower():
        pytest.skip("this container may not trace")
    assert traced.stdout == "begins\npushed\n"
    calls = re.findall(rf'(fsync|rename)\([^/]*({store.root}[^>"]*)', log.read_text())
    synced = {path for call, path in calls if call == "fsync"}
    renamed = [path for call, path in calls if call == "rename"]
    assert len(renamed) == 9
    assert renamed[-1].startswith(store.snapshots + "/.")
    assert all(calls.index(("fsync", aside)) < calls.index(("rename", aside)) for aside in renamed)
    last = calls.index(("rename", renamed[-1]))
    folders = {path.rpartition("/")[0] for path in renamed[:-1]}
    assert all(calls.index(("fsync", folder)) < last for folder in {*folders, store.objects})
    assert store.snapshots in synced


def test_a_full_disk_is_told_in_one_sentence(source: Path, tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can mount a small file system")
    with small_disk(tmp_path / "small", "128k") as small:
        store = UserPaths(str(small))
        manifest = scan(source)
        with pytest.raises(StoreError) as caught:
            push(manifest, source, store)
        assert re.match(r"cannot (copy|write) .*: No space left on device$", caught.value.message)
        assert store.root in caught.value.message
        assert "free space" in caught.value.hint
        assert check_store(store) == 0
        assert asides(store) == []
        with pytest.raises(SnapshotError, match="No space left on device"):
            good = UserPaths(str(tmp_path / "good"))
            push(manifest, source, good)
            restore(manifest, Path(good.objects), small / "restored")


def test_a_store_that_may_not_be_written_is_told(source: Path, open_folder: Path) -> None:
    shutil.copytree(source, open_folder / "source", symlinks=True)
    (open_folder / "closed").mkdir()
    (open_folder / "closed").chmod(0o555)
    manifest = scan(open_folder / "source")
    closed = UserPaths(str(open_folder / "closed"))
    answer = as_ordinary_user(lambda: push(manifest, open_folder / "source", closed))
    assert answer == (
        f"StoreError: cannot make the store of snapshots {closed.objects}: Permission denied"
        " (you have no right to it: choose another workspace)"
    )
    opened = UserPaths(str(open_folder / "opened"))
    answer = as_ordinary_user(lambda: push(manifest, open_folder / "source", opened))
    assert answer == "no error"
    assert check_store(opened) == 1


# -- restoring ------------------------------------------------------------------------------------


def test_only_a_new_or_empty_folder_is_filled(
    source: Path, store: UserPaths, tmp_path: Path
) -> None:
    manifest = scan(source)
    push(manifest, source, store)
    (tmp_path / "empty").mkdir()
    restore(manifest, Path(store.objects), tmp_path / "empty")
    with pytest.raises(SnapshotError, match="is not empty"):
        restore(manifest, Path(store.objects), tmp_path / "empty")
    with pytest.raises(
        SnapshotError, match=r"cannot restore a snapshot into .*run\.sh: File exists"
    ):
        restore(manifest, Path(store.objects), source / "run.sh")


def test_damage_is_seen(source: Path, store: UserPaths, tmp_path: Path) -> None:
    manifest = scan(source)
    push(manifest, source, store)
    file = Path(store.objects, object_name(manifest.files[3].sha256))
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.unlink()
    file.write_bytes(content)
    with pytest.raises(StoreError, match=re.escape(f"is damaged: {file}")):
        restore(manifest, Path(store.objects), tmp_path / "one")
    file.unlink()
    with pytest.raises(StoreError, match="No such file"):
        restore(manifest, Path(store.objects), tmp_path / "two")


def test_a_snapshot_that_is_not_there(store: UserPaths) -> None:
    with pytest.raises(StoreError, match=r"cannot read the snapshot .*: No such file"):
        read_manifest(store, "a" * 64)
    Path(store.snapshots).mkdir(parents=True)
    Path(store.manifest("a" * 64)).write_bytes(Manifest.of([Entry("a", "b" * 64, 1)]).encode())
    with pytest.raises(StoreError, match="holds another snapshot"):
        read_manifest(store, "a" * 64)
    Path(store.manifest("c" * 64)).write_bytes(b"{}")
    with pytest.raises(StoreError, match="the manifest is damaged"):
        read_manifest(store, "c" * 64)
