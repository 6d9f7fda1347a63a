"""Bringing spools to the record: byte for byte, whoever goes on, whatever happened before."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcrun.agent.spool import Mirror, bring, mirror, prepare, remove
from hpcrun.errors import StoreError
from hpcrun.record import decode_page
from tests.agent_job import small_disk
from tests.campaign import Figures, seeded, times

NAMES = ("rank-0-1.0-a-1.jsonl", "rank-0-1.0-a-1.metrics.jsonl", "rank-1-1.0-a-2.jsonl")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    spool, record = tmp_path / "spool", tmp_path / "record"
    prepare(str(spool))
    record.mkdir()
    return spool, record


def same(spool: Path, record: Path) -> bool:
    names = [path.name for path in spool.glob("*.jsonl") if path.stat().st_size]
    return all((record / name).read_bytes() == (spool / name).read_bytes() for name in names)


Steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(NAMES), st.binary(min_size=1, max_size=200)),
        st.tuples(st.sampled_from(["advance", "sync", "die"]), st.just(""), st.just(b"")),
    ),
    max_size=30,
)


@given(steps=Steps)
@settings(max_examples=150)
def test_any_keeper_goes_on_where_another_stopped(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, bytes]]
) -> None:
    root = tmp_path_factory.mktemp("mirror")
    spool, record = root / "spool", root / "record"
    spool.mkdir()
    record.mkdir()
    keeper = Mirror(str(spool), str(record))
    for step, name, data in steps:
        if step == "write":
            with (spool / name).open("ab") as file:
                file.write(data)
        elif step == "advance":
            keeper.advance()
            assert same(spool, record)
        elif step == "sync":
            keeper.sync()
        else:
            keeper.close()
            keeper = Mirror(str(spool), str(record))
    keeper.advance()
    keeper.sync()
    assert keeper.missing() == 0
    assert keeper.error is None
    assert same(spool, record)
    keeper.close()


def test_some_who_bring_what_was_left_at_once_do_not_trip_over_one_another(tmp_path: Path) -> None:
    at_once = threading.Barrier(2)

    def bring_one(number: int) -> int:
        at_once.wait()
        return bring(str(tmp_path / f"spool{number}"), str(tmp_path / f"record{number}"))

    with ThreadPoolExecutor(2) as pool:
        for number in range(60):
            prepare(str(tmp_path / f"spool{number}"))
            (tmp_path / f"record{number}").mkdir()
            for name in NAMES:
                (tmp_path / f"spool{number}" / name).write_bytes(b"x\n")
            assert max(pool.map(bring_one, [number] * 2)) <= 6
            assert not (tmp_path / f"spool{number}").exists()
            brought = {
                file.name: file.read_bytes() for file in (tmp_path / f"record{number}").iterdir()
            }
            assert brought == dict.fromkeys(NAMES, b"x\n")


def test_two_who_mirror_the_same_write_the_same(folders: tuple[Path, Path]) -> None:
    spool, record = folders
    first, second = (Mirror(str(spool), str(record)) for _ in range(2))
    for number in range(50):
        with (spool / NAMES[0]).open("ab") as file:
            file.write(b"line %d\n" % number)
        first.advance()
        second.advance()
    assert same(spool, record)
    first.close()
    second.close()


def test_a_half_written_copy_is_completed(folders: tuple[Path, Path]) -> None:
    spool, record = folders
    (spool / NAMES[0]).write_bytes(b"0123456789\n" * 1000)
    (record / NAMES[0]).write_bytes((b"0123456789\n" * 1000)[:4321])
    assert mirror(str(spool), str(record)) == 11000 - 4321
    assert same(spool, record)
    assert mirror(str(spool), str(record)) == 0


@pytest.mark.campaign
def test_what_a_crash_left_at_the_end_of_a_copy_is_written_anew(
    folders: tuple[Path, Path], figures: Figures
) -> None:
    """Zeros where the length had come and the bytes had not; or garbage, or less, or more of it."""
    spool, record = folders
    lines = b"".join(b"line %d\n" % number for number in range(3000))
    (spool / NAMES[0]).write_bytes(lines)
    tries = times(1000)
    for chance in seeded("crash", tries):
        whole = chance.randrange(len(lines))
        lost = chance.randrange(1, 5000)
        rest = chance.choice([bytes(lost), chance.randbytes(lost), b""])
        (record / NAMES[0]).write_bytes(lines[:whole] + rest)
        mirror(str(spool), str(record))
        assert (record / NAMES[0]).read_bytes()[: len(lines)] == lines
        assert not decode_page((record / NAMES[0]).read_bytes()[len(lines) :]).facts
    figures.tell("crash while a journal was brought", crashes=tries, lost=0)


def test_only_journals_are_brought(folders: tuple[Path, Path]) -> None:
    spool, record = folders
    for name in ("exits", "starts", ".hidden.jsonl", "x.json"):
        (spool / name).write_text("x")
    os.mkfifo(spool / "output-3-77")
    assert mirror(str(spool), str(record)) == 0
    assert list(record.iterdir()) == []
    remove(str(spool))
    assert not spool.exists()


def test_what_is_missing_is_counted_in_records(folders: tuple[Path, Path]) -> None:
    spool, record = folders
    keeper = Mirror(str(spool), str(record))
    (spool / NAMES[0]).write_bytes(b"one\ntwo\n")
    keeper.advance()
    keeper.sync()
    (spool / NAMES[0]).write_bytes(b"one\ntwo\nthree\nfour\ntorn")
    (spool / NAMES[1]).write_bytes(b"five\n")
    assert keeper.missing() == 4
    keeper.close()


def test_a_spool_that_is_gone_is_no_error(tmp_path: Path) -> None:
    keeper = Mirror(str(tmp_path / "gone"), str(tmp_path))
    assert (keeper.advance(), keeper.missing(), keeper.error) == (0, 0, None)


def test_an_error_of_one_does_not_keep_the_others_back(folders: tuple[Path, Path]) -> None:
    spool, record = folders
    for name in NAMES:
        (spool / name).write_bytes(b"data\n")
    (record / NAMES[0]).mkdir()
    keeper = Mirror(str(spool), str(record))
    assert keeper.advance() == 10
    assert isinstance(keeper.error, IsADirectoryError)
    (record / NAMES[0]).rmdir()
    assert keeper.advance() == 5
    assert keeper.error is None
    assert same(spool, record)
    keeper.close()
    with pytest.raises(OSError):
        mirror(str(spool), str(spool / "nowhere"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_a_full_disk_is_gone_on_from(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / NAMES[0]).write_bytes(os.urandom(300_000))
    with small_disk(tmp_path / "disk", "200k") as disk:
        (disk / "filler").write_bytes(b"x" * 100_000)
        keeper = Mirror(str(spool), str(disk))
        keeper.advance()
        assert isinstance(keeper.error, OSError)
        assert keeper.missing() > 0
        (disk / "filler").unlink()
        os.truncate(spool / NAMES[0], 150_000)
        keeper.advance()
        keeper.sync()
        assert (keeper.error, keeper.missing()) == (None, 0)
        assert same(spool, disk)
        keeper.close()


def test_a_spool_is_private(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o755)
    prepare(str(spool))
    assert spool.stat().st_mode & 0o777 == 0o700
    prepare(str(spool))


@pytest.mark.parametrize("what", ["link", "file", "no parent"])
def test_what_is_no_folder_of_ours_is_refused(tmp_path: Path, what: str) -> None:
    spool = tmp_path / "spool"
    if what == "link":
        spool.symlink_to(tmp_path)
    elif what == "file":
        spool.touch()
    else:
        spool = tmp_path / "no" / "spool"
    with pytest.raises(StoreError, match=str(spool)):
        prepare(str(spool))
