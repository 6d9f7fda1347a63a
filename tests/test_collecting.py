"""Bringing outputs/ and logs/ of a working folder: what comes, what stays, and what is said."""

from __future__ import annotations

import os
import socket
import subprocess
import traceback
from pathlib import Path

import pytest

from hpcrun.agent import collecting
from tests.agent_job import small_disk
from tests.working_node import Node, brought, node

__all__ = ["node"]


def test_a_file_comes_once_it_is_quiet(node: Node) -> None:
    node.write("outputs/a/model.pt", "half")
    node.look()
    assert brought(node.files) == {}
    node.write("outputs/a/model.pt", "whole")
    node.look()
    assert brought(node.files) == {}
    node.look()
    assert brought(node.files) == {"outputs/a/model.pt": b"whole"}


def test_a_file_that_never_rests_comes_all_the_same(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "OVERDUE", 0.0)
    for text in ("1", "12"):
        node.write("outputs/growing.txt", text)
        node.look()
    assert brought(node.files) == {"outputs/growing.txt": b"12"}


def test_a_write_in_the_same_tick_of_the_clock_is_not_missed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = node.write("outputs/growing.txt", "1")
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "OVERDUE", 0.0)
        node.look()
    assert brought(node.files) == {"outputs/growing.txt": b"1"}
    status = path.stat()
    path.write_text("2")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    node.finish()
    assert brought(node.files) == {"outputs/growing.txt": b"2"}


def test_what_differs_at_the_end_comes_without_waiting(node: Node) -> None:
    node.write("outputs/model.pt", "1")
    node.write("logs/train.log", "1\n")
    node.finish()
    assert brought(node.files) == {"outputs/model.pt": b"1", "logs/train.log": b"1\n"}
    assert node.told == []


def test_modes_and_times_come_along(node: Node) -> None:
    path = node.write("outputs/run.sh", "#!/bin/sh\n")
    path.chmod(0o755)
    os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    node.finish()
    copy = (node.files / "outputs/run.sh").stat()
    assert (copy.st_mode & 0o111, copy.st_mtime_ns) == (0o111, 1_600_000_000_123_456_789)


def test_replaced_and_removed_files(node: Node) -> None:
    node.write("outputs/model.pt", "old")
    node.write("outputs/gone.pt", "x")
    node.look()
    node.look()
    assert set(brought(node.files)) == {"outputs/model.pt", "outputs/gone.pt"}
    node.write("outputs/aside", "new").rename(node.work / "outputs/model.pt")
    (node.work / "outputs/gone.pt").unlink()
    node.look()
    assert brought(node.files) == {"outputs/model.pt": b"old"}
    node.look()
    assert brought(node.files) == {"outputs/model.pt": b"new"}


def test_a_file_in_place_of_a_folder_and_a_folder_in_place_of_a_file(node: Node) -> None:
    node.write("outputs/a/b", "1")
    node.write("outputs/c", "2")
    node.look()
    node.look()
    (node.work / "outputs/a/b").unlink()
    (node.work / "outputs/a").rmdir()
    (node.work / "outputs/c").unlink()
    node.write("outputs/a", "3")
    node.write("outputs/c/d", "4")
    node.finish()
    assert brought(node.files) == {"outputs/a": b"3", "outputs/c/d": b"4"}


def test_a_folder_that_vanishes_as_a_whole_removes_nothing(node: Node) -> None:
    node.write("outputs/model.pt", "1")
    node.look()
    node.look()
    (node.work / "outputs").rename(node.work / "elsewhere")
    node.look()
    node.finish()
    assert brought(node.files) == {"outputs/model.pt": b"1"}


def test_a_log_is_appended_to_and_a_log_that_was_written_anew_is_copied(node: Node) -> None:
    line = b"x" * 99 + b"\n"
    path = node.write("logs/train.log", line * 1000)
    node.look()
    node.look()
    inode = (node.files / "logs/train.log").stat().st_ino
    with path.open("ab") as log:
        log.write(line * 10)
    node.look()
    node.look()
    copy = node.files / "logs/train.log"
    assert (copy.stat().st_ino, copy.read_bytes()) == (inode, line * 1010)
    path.write_bytes(b"y" * 200_000)  # in place, and longer than before
    node.finish()
    assert copy.stat().st_ino != inode
    assert copy.read_bytes() == b"y" * 200_000


def test_a_log_comes_while_it_is_written(node: Node) -> None:
    for text in ("1\n", "1\n2\n"):
        node.write("logs/train.log", text)
        node.look()
        assert (node.files / "logs/train.log").read_text() == text


def test_holes_stay_holes(node: Node) -> None:
    path = node.work / "outputs/sparse.bin"
    with path.open("wb") as file:
        file.truncate(50 * 2**30)
        file.seek(10 * 2**30)
        file.write(b"in the middle")
        file.seek(50 * 2**30 - 4)
        file.write(b"last")
    node.finish()
    copy = node.files / "outputs/sparse.bin"
    assert (copy.stat().st_size, copy.stat().st_blocks < 100) == (50 * 2**30, True)
    with copy.open("rb") as file:
        file.seek(10 * 2**30)
        assert file.read(14) == b"in the middle\0"
        file.seek(-4, os.SEEK_END)
        assert file.read() == b"last"


def test_blocks_of_zeros_become_holes_where_nothing_tells(node: Node) -> None:
    node.write("outputs/zeros.bin", b"\0" * (8 << 20) + b"end")
    node.finish()
    copy = node.files / "outputs/zeros.bin"
    assert copy.stat().st_blocks < 100
    assert copy.read_bytes() == b"\0" * (8 << 20) + b"end"


def test_links_inside_are_kept_and_those_outside_refused_by_name(node: Node) -> None:
    node.write("outputs/3.pt", "3")
    node.write("train.py", "source")
    (node.work / "outputs/best").symlink_to("3.pt")
    (node.work / "outputs/full").symlink_to(node.work / "outputs/3.pt")
    (node.work / "logs/best").symlink_to("../outputs/3.pt")
    (node.work / "outputs/folder").symlink_to(".")
    (node.work / "outputs/code").symlink_to("../train.py")
    (node.work / "outputs/secret").symlink_to("/etc/shadow")
    node.finish()
    links = [path for path in node.files.rglob("*") if path.is_symlink()]
    assert {p.relative_to(node.files).as_posix(): str(p.readlink()) for p in links} == {
        "outputs/best": "3.pt",
        "outputs/full": "3.pt",
        "outputs/folder": ".",
        "logs/best": "../outputs/3.pt",
    }
    assert (node.files / "outputs/full").read_text() == "3"
    assert len(node.told) == 2
    assert any("outputs/code" in text for text in node.told)
    assert any("outputs/secret" in text and "outside" in text for text in node.told)


def test_pipes_and_sockets_are_refused_by_name_and_never_opened(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(node.work / "outputs/pipe")
    listening = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(node.work / "outputs")  # a socket's path must be short
    listening.bind("socket")
    node.write("outputs/model.pt", "1")
    node.finish()
    listening.close()
    assert brought(node.files) == {"outputs/model.pt": b"1"}
    assert sorted(text.split(", ", 1)[1] for text in node.told) == [
        "it is a pipe: outputs/pipe",
        "it is a socket: outputs/socket",
    ]


def test_many_of_a_kind_are_told_by_their_count(node: Node) -> None:
    for number in range(20):
        os.mkfifo(node.work / f"outputs/pipe{number}")
    node.finish()
    assert len(node.told) == 6
    assert node.told[-1].endswith("20 files in all")


def test_what_cannot_be_read_is_told_and_stays(tmp_path: Path) -> None:
    # Root reads everything: another user tries.
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    tmp_path.chmod(0o777)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.chdir(tmp_path)  # the folders above are closed to that user
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            node = Node(Path("nobody"), Path("nobody/files"), "n1", first=True)
            node.write("outputs/hidden", "x").chmod(0)
            node.write("outputs/shown", "x")
            (node.work / "outputs/closed").mkdir(mode=0)
            node.finish()
            assert brought(node.files) == {"outputs/shown": b"x"}
            assert any("outputs/hidden" in t and "Permission denied" in t for t in node.told)
            assert any("outputs/closed" in t and "Permission denied" in t for t in node.told)
            assert list(node.collector.stays) == ["outputs/hidden"]
            status = 0
        except BaseException:  # noqa: BLE001 - the top of a process
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0


def test_odd_names(node: Node) -> None:
    for name in ("a b", "line\nbreak", "\udcff", "-n", "ü", "x" * 255):
        node.write(f"outputs/{name}", "1")
    node.finish()
    assert set(os.listdir(os.fsencode(node.files / "outputs"))) == set(
        os.listdir(os.fsencode(node.work / "outputs"))
    )


def test_a_collector_that_begins_anew_copies_nothing_again(node: Node) -> None:
    node.write("outputs/model.pt", "1")
    node.finish()
    inode = (node.files / "outputs/model.pt").stat().st_ino
    node.begin()
    node.finish()
    assert (node.files / "outputs/model.pt").stat().st_ino == inode
    node.write("outputs/model.pt", "2")
    node.begin()
    node.finish()
    assert (node.files / "outputs/model.pt").read_text() == "2"


def test_many_small_files_leave_no_inode_beside_their_own(node: Node) -> None:
    for number in range(2000):
        node.write(f"outputs/{number % 20}/{number}.json", str(number))
    node.look()
    node.look()
    node.finish()
    entries = list(node.files.rglob("*"))
    assert len(entries) == 2000 + 20 + 2
    assert (node.files / "outputs/7/1987.json").read_text() == "1987"


def test_a_full_disk_is_an_error_and_no_part_stays(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with small_disk(tmp_path / "disk", "4m") as disk:
        node = Node(tmp_path, disk / "files", "n1", first=True)
        node.write("outputs/small", "1")
        node.write("outputs/large", os.urandom(8 << 20))
        done, _ = node.collector.finish(1000)
        assert not done
        assert node.collector.error is not None
        assert "No space" in str(node.collector.error)
        assert brought(node.files) == {"outputs/small": b"1"}
        assert node.collector.waiting() == (1, 8 << 20)
        subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
        node.finish()
        assert (node.files / "outputs/large").stat().st_size == 8 << 20


def test_a_file_in_place_of_one_with_its_size_and_time(node: Node) -> None:
    os.utime(node.write("outputs/model.pt", "1"), (1e9, 1e9))
    node.finish()
    node.begin()
    os.utime(node.write("outputs/model.pt", "2"), (1e9, 1e9))
    node.look()
    node.look()
    node.write("outputs/aside", "3").rename(node.work / "outputs/model.pt")
    os.utime(node.work / "outputs/model.pt", (1e9, 1e9))
    node.look()
    node.look()
    assert (node.files / "outputs/model.pt").read_text() == "3"
