"""Snapshots that go up over SSH: what is sent, what is there afterwards, and what a cut leaves."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hpcrun.layout import UserPaths
from hpcrun.manifest import Manifest
from hpcrun.snapshot import read_manifest, restore, scan
from tests.campaign import Figures, seeded, times
from tests.cluster.laptop import Laptop
from tests.lab import Lab, eventually

pytestmark = pytest.mark.cluster

KIB = 1 << 10
MIB = 1 << 20

PROGRAM = Path(__file__).with_name("pushing.py")


class Desk:
    """lena's project, and a workspace on the cluster that it is pushed to."""

    def __init__(self, laptop: Laptop, lab: Lab, name: str, user: str = "alice") -> None:
        self.laptop, self._lab = laptop, lab
        self.host = {"alice": "login", "carol": "csh"}[user]
        self.workspace = lab.cluster.home(user) / name
        self.store = UserPaths.of(str(self.workspace), user)
        self.source = laptop.home / "project"
        self.source.mkdir()
        # What a test of lena's runs is not to be found where the cluster's users look.
        self._program = laptop.write("pushing.py", PROGRAM.read_text())

    def words(self) -> list[str]:
        hpcrun = str(self._lab.venv / "bin/hpcrun")
        where = [str(self.source), self.host, hpcrun, str(self.workspace)]
        return [self._lab.python, str(self._program), *where]

    def push(self) -> str:
        """What became of a push."""
        done = self.laptop.run(self.words(), input="\n")
        assert done.returncode == 0, done.stderr
        return done.stdout.removeprefix("begins\n").strip()

    def pushed(self) -> None:
        """A push of what is new there, to its end."""
        assert self.push() == "pushed"

    def failed(self) -> Any:
        """The error of a push."""
        return json.loads(self.push())

    @contextmanager
    def pushing(self, **env: str) -> Iterator[subprocess.Popen[str]]:
        """A push that is under way."""
        with self.laptop.popen(self.words(), stdin=subprocess.PIPE, env=env) as going:
            assert going.stdout is not None
            assert going.stdin is not None
            assert going.stdout.readline() == "begins\n"
            going.stdin.write("\n")
            going.stdin.flush()
            yield going

    def sent(self, act: Callable[[], Any]) -> int:
        """Bytes that leave the laptop while something is done."""
        before = self.laptop.sent()
        act()
        return self.laptop.sent() - before

    def manifest(self) -> Manifest:
        """The source as it is."""
        return scan(self.source, fresh=True)

    def names(self) -> list[str]:
        """The snapshots that are there."""
        return sorted(path.stem for path in Path(self.store.snapshots).glob("*.json"))

    def arrived(self) -> int:
        """Bytes that have come of a push that goes on, taken in already or not."""
        size = 0
        for pattern in ("objects/*/*", ".incoming-*/arrived/*"):
            for file in Path(self.store.snapshots).glob(pattern):
                with contextlib.suppress(FileNotFoundError):  # it is being taken in
                    size += file.stat().st_size
        return size

    def check(self, tmp_path: Path) -> None:
        """The source is there, byte for byte; and nothing else is left of its push."""
        manifest = read_manifest(self.store, self.manifest().digest)
        restore(manifest, Path(self.store.objects), tmp_path / "restored")
        assert scan(tmp_path / "restored", fresh=True) == self.manifest()
        shutil.rmtree(tmp_path / "restored")
        assert not list(Path(self.store.snapshots).glob(".incoming-*"))


def fill(folder: Path, count: int, size: int, seed: int = 1) -> None:
    rng = random.Random(seed)
    for number in range(count):
        file = folder / f"part{number % 7}" / f"{number}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(rng.randbytes(rng.randint(1, 2 * size)))


@pytest.fixture
def desk(laptop: Laptop, lab: Lab, request: pytest.FixtureRequest) -> Iterator[Desk]:
    desk = Desk(laptop, lab, request.node.name.partition("[")[0])
    yield desk
    shutil.rmtree(desk.workspace, ignore_errors=True)


def test_all_of_a_source_arrives_and_nothing_that_is_ignored(desk: Desk, tmp_path: Path) -> None:
    fill(desk.source, 20, 2000)
    (desk.source / "run.sh").write_text("#!/bin/sh\n")
    (desk.source / "run.sh").chmod(0o755)
    (desk.source / "link").symlink_to("part1/1.py")
    (desk.source / "copy").write_text("#!/bin/sh\n")
    (desk.source / "empty").touch()
    Path(os.fsdecode(os.fsencode(desk.source) + b"/not utf-8 \xff \n *'\"")).write_text("odd")
    (desk.source / "data").mkdir()
    (desk.source / "data" / "large").write_bytes(random.Random(2).randbytes(MIB))
    (desk.source / ".gitignore").write_text("data/\n")
    assert desk.sent(desk.pushed) < MIB
    desk.check(tmp_path)
    assert "data/large" not in {entry.path for entry in desk.manifest().entries}
    stored = Path(desk.store.objects).glob("*/*")
    assert {oct(file.stat().st_mode & 0o777) for file in stored} == {"0o444"}
    assert desk.push() == "was there"


def test_a_change_of_one_line_sends_kilobytes(desk: Desk, tmp_path: Path) -> None:
    fill(desk.source, 300, 6 * KIB)
    large = desk.source / "large.csv"
    large.write_text("".join(f"{random.Random(n).random()}\n" for n in range(200_000)))
    whole = desk.sent(desk.pushed)
    assert whole > desk.manifest().total_size
    lines = large.read_text().splitlines(keepends=True)
    large.write_text("".join(["one more\n", *lines]))
    (desk.source / "part3" / "3.py").write_text("changed\n")
    (desk.source / "part4" / "4.py").unlink()
    # Two connections of SSH are a third of it, and what rsync says of equal blocks comes back.
    assert desk.sent(desk.pushed) < 40 * KIB
    desk.check(tmp_path)
    assert len(desk.names()) == 2


def test_a_store_that_has_lost_the_last_snapshot_is_told_all(desk: Desk, tmp_path: Path) -> None:
    fill(desk.source, 5, 2000)
    desk.push()
    shutil.rmtree(desk.store.snapshots)
    (desk.source / "more.py").write_text("more\n")
    assert desk.push() == "pushed"
    desk.check(tmp_path)


def test_tcsh_that_talks_does_no_harm(laptop: Laptop, lab: Lab, tmp_path: Path) -> None:
    assert laptop.run(["ssh", "csh", "true"]).stdout, "it does not talk"
    desk = Desk(laptop, lab, "of tcsh", "carol")
    fill(desk.source, 5, 2000)
    try:
        desk.pushed()
        desk.check(tmp_path)
    finally:
        shutil.rmtree(desk.workspace)


def test_after_a_cut_only_the_rest_is_sent(desk: Desk, tmp_path: Path) -> None:
    fill(desk.source, 40, 50 * KIB)
    (desk.source / "large").write_bytes(random.Random(3).randbytes(4 * MIB))
    total = desk.manifest().total_size
    desk.laptop.slow(10_000)
    with desk.pushing() as going:
        eventually(lambda: desk.arrived() > total // 2)
        desk.laptop.link(False)
        output, _ = going.communicate(timeout=180)
    error = json.loads(output)
    assert error["kind"] == "TransportError" and error["transient"], error
    assert "was lost" in error["message"]
    assert desk.names() == []
    desk.laptop.slow(None)
    desk.laptop.link(True)
    # What was under way when the link was cut is sent again, as much as buffers hold.
    assert desk.sent(desk.pushed) < total * 0.8
    desk.check(tmp_path)


def test_two_machines_of_one_name_do_not_disturb_each_other(desk: Desk, tmp_path: Path) -> None:
    fill(desk.source, 30, 50 * KIB)
    other = desk.laptop.write("other/home", "").parent
    desk.laptop.slow(10_000)
    with desk.pushing() as one, desk.pushing(HOME=str(other)) as two:
        told = [push.communicate()[0] for push in (one, two)]
    desk.laptop.slow(None)
    assert told == ["pushed\n", "pushed\n"]
    desk.check(tmp_path)


def test_a_full_disk_is_told_and_nothing_half_arrived_is_left(desk: Desk) -> None:
    fill(desk.source, 10, 100 * KIB)
    needed = desk.manifest().total_size
    with desk.laptop.small_disk(1 * MIB // 2) as disk:
        desk.workspace = disk / "history"
        error = desk.failed()
        assert error["kind"] == "StoreError", error
        assert f"{needed / KIB:.4g} KiB more" in error["message"].replace("bytes", "KiB")
        left = desk.laptop.run(["ssh", "login", f"find {disk} -name '.incoming*'"])
        assert left.stdout == ""


def test_a_disk_that_fills_meanwhile_is_told(desk: Desk) -> None:
    fill(desk.source, 30, 100 * KIB)
    size = desk.manifest().total_size
    with desk.laptop.small_disk(size + 2 * MIB) as disk:
        desk.workspace = disk / "history"
        desk.laptop.slow(4_000)
        with desk.pushing() as going:
            # Room is looked at before; then somebody else takes it.
            look = ["ssh", "login", f"ls {disk}/history/users/alice/snapshots/.inc*/arrived"]
            eventually(lambda: desk.laptop.run(look).stdout)
            desk.laptop.run(["ssh", "login", f"head -c {size + MIB} /dev/zero >{disk}/other"])
            desk.laptop.slow(None)
            output, _ = going.communicate(timeout=180)
        error = json.loads(output)
        assert error["kind"] == "StoreError", error
        # rsync's own words may be lost where its far half ends.
        told = ("has no room for", "No space left on device"), ("cannot write what it lacks",)
        assert any(all(part in error["message"] for part in parts) for parts in told), error
        words = f"rm {disk}/other; cd {disk}/history/users/alice/snapshots && ls -A"
        assert desk.laptop.run(["ssh", "login", words]).stdout == "objects\n"
        desk.pushed()


def test_a_file_that_changes_after_the_scan_is_told(desk: Desk) -> None:
    fill(desk.source, 5, 2000)
    with desk.laptop.popen(desk.words(), stdin=subprocess.PIPE) as going:
        assert going.stdout is not None
        assert going.stdout.readline() == "begins\n"
        (desk.source / "part1" / "1.py").write_text("another\n")
        output, _ = going.communicate("\n", timeout=180)
    error = json.loads(output)
    assert error["kind"] == "SnapshotError" and error["transient"], error
    assert "part1/1.py changed after it was scanned" in error["message"]
    assert desk.names() == []


def test_how_far_it_has_come_is_told(desk: Desk) -> None:
    (desk.source / "large").write_bytes(random.Random(4).randbytes(2 * MIB))
    (desk.source / "small").write_text("small")
    desk.laptop.slow(16_000)
    done = desk.laptop.run(desk.words(), input="\n")
    lines = [line.split()[1:] for line in done.stderr.splitlines() if line.startswith("progress")]
    seen = [int(so_far) for so_far, _ in lines]
    assert {total for _, total in lines} == {str(2 * MIB + 5)}
    assert seen == sorted(seen)
    assert seen[-1] == 2 * MIB + 5
    assert any(0 < so_far < 2 * MIB for so_far in seen)


@pytest.mark.campaign
def test_a_push_that_is_killed_at_any_moment_is_finished_by_the_next(
    desk: Desk, tmp_path: Path, figures: Figures
) -> None:
    killed = 0
    desk.laptop.slow(10_000)
    for number, chance in enumerate(seeded("push over ssh", times(50))):
        fill(desk.source, 12, 20 * KIB, seed=number)
        before = desk.names()
        with desk.pushing() as going:
            try:
                going.wait(chance.uniform(0.05, 1.2))
            except subprocess.TimeoutExpired:
                if chance.random() < 0.5:
                    desk.laptop.restart_login()
                else:
                    going.kill()
                killed += 1
            going.communicate(timeout=180)
        for name in set(desk.names()) - set(before):
            restore(read_manifest(desk.store, name), Path(desk.store.objects), tmp_path / name)
        assert desk.push() in ("pushed", "was there")
        desk.check(tmp_path)
    figures.tell("a push over SSH is killed", killed=killed, lost=0)
