"""Sizes and digests are in the record before a run is sealed, and nothing of it stops sealing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun.errors import StoreError
from hpcrun.layout import Attempt, RunPaths
from hpcrun.record import RunRecord
from hpcrun.workflow import inventory
from hpcrun.workflow.clean import clean
from hpcrun.workflow.files import check_files, files_of, found_on_disk, take_inventory
from hpcrun.workflow.inventory import FILE, READ, forget, known, take
from hpcrun.workflow.seal import LOW, seal_run
from tests.care import Care


@pytest.fixture
def care(tmp_path: Path) -> Care:
    return Care(tmp_path)


def sealed(care: Care, paths: RunPaths) -> RunRecord:
    """The record of a run that is sealed as commands do it."""
    seal_run(care.session, care.session.record(paths.run_id), time.time())
    return care.store.read(paths.run_id)


def digests(care: Care, record: RunRecord) -> dict[str, str | None]:
    return {file.name: file.sha256 for file in files_of(care.store, record)}


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def deep(folder: Path) -> None:
    """Folders in each other, more than Python calls itself."""
    subprocess.run(["mkdir", "-p", str(folder / "/".join("d" * 1500))], check=True)


def test_a_sealed_run_has_all_digests(care: Care) -> None:
    paths = care.make()
    assert digests(care, care.store.read(paths.run_id))["logs/log.txt"] is None
    record = sealed(care, paths)
    assert digests(care, record)["logs/log.txt"] == hashlib.sha256(b"one line\n").hexdigest()
    assert None not in digests(care, record).values()
    assert not Path(paths.record).exists() and check_files(care.store, record) == []
    Path(paths.logs, "log.txt").write_text("two line\n")
    assert check_files(care.store, record) == ["changed: logs/log.txt"]


def test_what_is_too_large_to_be_read_has_its_size_and_time(care: Care) -> None:
    """A file beyond the limit is not opened; all that is smaller has its digest."""
    paths = care.make()
    large = Path(paths.outputs, "large")
    sparse(large, READ + 1)
    record = sealed(care, paths)
    found = known(care.run(paths))
    assert found is not None
    assert found["outputs/large"] == (READ + 1, large.stat().st_mtime_ns, None)
    assert [name for name, file in found.items() if file.sha256 is None] == ["outputs/large"]
    assert digests(care, record)["outputs/large"] is None
    large.write_text("another")
    assert check_files(care.store, record) == ["changed: outputs/large"]


@pytest.mark.parametrize("seals", [False, True])
def test_a_check_completes_what_is_not_known_yet(care: Care, seals: bool) -> None:
    """The smallest are read first, as many as the limit lets; a check reads the others."""
    paths = care.make()
    for size in (40, 30, 20):
        Path(paths.logs, f"{size}").write_text("x" * size)
    record = care.store.read(paths.run_id)
    take_inventory(care.store, record, limit=9 + 9 + 20 + 30)
    if seals:
        sealed(care, paths)
    known_now = digests(care, record)
    assert known_now["logs/40"] is None
    assert None not in [known_now[f"logs/{size}"] for size in (20, 30)]
    assert care.findings() == []
    assert care.findings(digests=True) == [] if seals else check_files(care.store, record) == []
    assert digests(care, record)["logs/40"] == hashlib.sha256(b"x" * 40).hexdigest()
    assert care.findings(digests=True) == []


def test_a_file_that_has_changed_before_its_digest_was_known_is_told(care: Care) -> None:
    paths = care.make()
    record = care.store.read(paths.run_id)
    take_inventory(care.store, record, limit=0)
    Path(paths.logs, "log.txt").write_text("two line\n")
    assert check_files(care.store, record) == ["changed: logs/log.txt"]
    assert digests(care, record)["logs/log.txt"] is None


def test_of_too_many_files_none_is_taken(care: Care, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "MOST", 2)
    paths = care.make()
    Path(paths.logs, "more").write_text("")
    with pytest.raises(StoreError, match="more than 2 files"):
        take_inventory(care.store, care.store.read(paths.run_id), limit=READ)
    sealed(care, paths)
    assert known(care.run(paths)) is None


def test_files_that_come_go_and_change_stop_no_sealing(care: Care) -> None:
    runs = [care.make(number) for number in range(8)]
    deep(Path(runs[0].outputs))
    stops = threading.Event()

    def restless() -> None:
        while not stops.is_set():
            for paths in runs:
                for name in ("a", "b", "c"):
                    file = Path(paths.logs, name)
                    file.write_bytes(os.urandom(1 << 16))
                    file.rename(Path(paths.logs, f"{name}2"))
                    Path(paths.logs, f"{name}2").unlink()

    thread = threading.Thread(target=restless)
    thread.start()
    try:
        for paths in runs:
            assert sealed(care, paths).has_ended
    finally:
        stops.set()
        thread.join()
    subprocess.run(["rm", "-r", str(Path(runs[0].outputs, "d"))], check=True)
    for paths in runs[1:]:
        found = known(care.run(paths))
        assert found is not None and found["logs/log.txt"].sha256 is not None


def test_a_deleted_run_does_not_come_back(care: Care) -> None:
    """Its digests are taken while its record goes."""
    paths = care.make()
    record = care.store.read(paths.run_id)
    Path(paths.record).rename(care.root / "gone")
    with pytest.raises(StoreError):
        take_inventory(care.store, record)
    assert not Path(paths.record).exists()


def test_nothing_is_taken_or_cleaned_of_a_run_that_was_submitted_again_meanwhile(
    care: Care,
) -> None:
    """What took a while was begun when it had ended."""
    paths = care.make()
    code = Path(paths.files, "train.py")
    code.write_text("print(1)\n")
    record = care.store.read(paths.run_id)

    def files() -> Iterator[tuple[str, os.stat_result]]:
        yield from found_on_disk(paths)
        care.store.append(paths, Attempt(2), "submitting", {"token": "2"})
        forget(paths)

    with pytest.raises(StoreError, match="goes on again"):
        take(care.store, record, files())
    assert known(care.run(paths)) is None
    with pytest.raises(StoreError, match="goes on again"):
        clean(care.session, record)
    assert code.exists()


DAMAGES = [
    *("", "[1]", "3", "{}", '{"files": 3}', '{"files": {"abcd": 1}}', '{"files": [3]}'),
    *('{"files": [[1, 2, 3, 4]]}', '{"files": [["a", "b"]]}', '{"files": [[{}, 1, 2, null]]}'),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_inventory_is_told(care: Care, damage: str) -> None:
    paths = care.make()
    Path(paths.record, FILE).write_text(damage)
    with pytest.raises(StoreError, match="it tells no files, their sizes and times"):
        known(care.run(paths))
    sealed(care, paths)  # all the same


def test_in_the_background_it_is_nice(care: Care) -> None:
    paths = care.make()
    sparse(Path(paths.outputs, "large"), 200 << 20)
    words = ["-m", "hpcrun", "-w", str(care.session.workspace), "store", "seal"]
    env = {**os.environ, "XDG_CACHE_HOME": str(care.session.cache)}
    with subprocess.Popen([sys.executable, *words, "--due"], env=env) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # It is there until it is waited for.
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == LOW
    done = subprocess.run(
        [sys.executable, *words, "--json"], env=env, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == []
    assert care.run(paths).seals() == [0]
