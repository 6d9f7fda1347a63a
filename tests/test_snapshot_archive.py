"""A snapshot as a zip file: what comes out of it is what was sent."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from hpcrun.errors import SnapshotError, StoreError
from hpcrun.layout import UserPaths
from hpcrun.manifest import Manifest, object_name
from hpcrun.snapshot import push, scan
from hpcrun.snapshot.archive import archive

UTF8 = 0x800


@pytest.fixture
def store(tmp_path: Path) -> UserPaths:
    return UserPaths(str(tmp_path / "store"))


@pytest.fixture
def manifest(tmp_path: Path, store: UserPaths, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A source with links, an executable and odd names, as it stands in the store."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "source"
    for name in map(os.fsdecode, (b"\xff\xfe", b"caf\xc3\xa9", b"-rf", b"*", b"new\nline")):
        (source / name).mkdir(parents=True)
        (source / name / name).write_bytes(os.fsencode(name) * 1000)
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "empty").touch()
    (source / "link").symlink_to("run.sh")
    (source / "folder").symlink_to("-rf")
    (source / os.fsdecode(b"l\xff")).symlink_to(os.fsdecode(b"\xff\xfe/\xff\xfe"))
    found = scan(source)
    push(found, source, store)
    return found


def lay(file: Path, folder: Path) -> None:
    """Lays an archive as the format says: names in UTF-8 where the flag is set, links as links."""
    with zipfile.ZipFile(file) as opened:
        for member in opened.infolist():
            name = member.filename.encode("utf-8" if member.flag_bits & UTF8 else "cp437")
            path = folder / os.fsdecode(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = member.external_attr >> 16
            if stat.S_ISLNK(mode):
                path.symlink_to(os.fsdecode(opened.read(member)))
            else:
                path.write_bytes(opened.read(member))
                path.chmod(stat.S_IMODE(mode))


def test_every_name_link_and_x_bit_comes_back(
    manifest: Manifest, store: UserPaths, tmp_path: Path
) -> None:
    archive(manifest, Path(store.objects), tmp_path / "new/a.zip")
    archive(manifest, Path(store.objects), tmp_path / "new/b.zip")
    assert sorted(os.listdir(tmp_path / "new")) == ["a.zip", "b.zip"]
    assert (tmp_path / "new/a.zip").read_bytes() == (tmp_path / "new/b.zip").read_bytes()
    lay(tmp_path / "new/a.zip", tmp_path / "laid")
    assert scan(tmp_path / "laid") == manifest


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_brings_links_and_bytes_back(
    manifest: Manifest, store: UserPaths, tmp_path: Path
) -> None:
    archive(manifest, Path(store.objects), tmp_path / "a.zip")
    # -^: else it makes `new^Jline` of a name with a newline.
    words = ["unzip", "-q", "-^", str(tmp_path / "a.zip"), "-d", str(tmp_path / "laid")]
    done = subprocess.run(words, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert scan(tmp_path / "laid") == manifest


def test_damage_leaves_no_archive(manifest: Manifest, store: UserPaths, tmp_path: Path) -> None:
    file = Path(store.objects, object_name(manifest.files[-1].sha256))
    file.chmod(0o644)
    file.write_bytes(b"other")
    with pytest.raises(StoreError, match="is damaged"):
        archive(manifest, Path(store.objects), tmp_path / "new/a.zip")
    assert os.listdir(tmp_path / "new") == []
    with pytest.raises(SnapshotError, match=r"cannot write .*run.sh/a.zip"):
        archive(manifest, Path(store.objects), tmp_path / "source/run.sh/a.zip")
