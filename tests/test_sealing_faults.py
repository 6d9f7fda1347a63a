"""Sealing under a hostile hand: killed, or on a full disk, a run reads as before."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from hpcrun.errors import StoreError
from hpcrun.journal import Journal
from hpcrun.layout import JOURNAL_SUFFIX, Attempt, JournalKind, RunPaths
from hpcrun.record import Fact, encode
from hpcrun.store import FileStore
from hpcrun.store.removal import remove
from hpcrun.store.sealing import remove_journals, seal, unseal
from hpcrun.store.stored import StoredRun
from hpcrun.store.users import login_of
from tests.test_stored import REQUEST

KILLS = 12
RUNS = 12

# Tells on standard output, unbuffered, which run is sealed; the pipe outlives it.
SEALER = """\
import os, sys, time
from pathlib import Path
from hpcrun.store import FileStore
from hpcrun.store.sealing import remove_journals, seal, unseal
from hpcrun.store.stored import StoredRun
from hpcrun.store.users import login_of

store = FileStore(Path(sys.argv[1]), login_of(os.getuid()))
for deed in sys.argv[2:]:
    for run_id in store.run_ids():
        run = store.stored(store.paths(run_id))
        if deed == "remove":
            remove_journals(run, before=1e12)
        else:
            {"seal": seal, "unseal": unseal}[deed](run)
        os.write(1, b"%s\\n" % run_id.encode())
"""


def make_run(store: FileStore, number: int, points: int = 300) -> RunPaths:
    """A run that has ended, with facts and metrics."""
    run_id = f"digits_{1700000000 + number}_0123abcd"
    paths = store.create({**REQUEST, "run_id": run_id}, "#!/bin/sh\n")
    started = Fact("started", Attempt(1), 1.0, 1, {"host": "n1", "nodes": ["n1"]})
    end = {"exit_code": 0, "signal": None, "cause": "completed", "interrupted": False}
    facts = [started, Fact("ended", Attempt(1), 9.0, 2, end)]
    Path(paths.journal("agent-1.0")).write_bytes(b"".join(map(encode, facts)))
    noise = random.Random(number)
    with Path(paths.record, "rank-0.metrics.jsonl").open("wb") as file:
        for step in range(points):
            data = {"m": f"m{step % 3}", "v": noise.random(), "s": step}
            file.write(encode(Fact("metric", Attempt(1), step / 8, step + 1, data)))
        file.write(b"00000000 torn\ntorn")
    return paths


def told(store: FileStore) -> list[str]:
    """All that readers are told of all runs. A fact that comes twice counts once."""
    found = []
    for run_id in store.run_ids():
        paths = store.paths(run_id)
        facts, bad = store.facts(paths, JournalKind.FACTS)
        metric_facts, bad_metrics = store.facts(paths, JournalKind.METRICS)
        found.append(repr((store.read(run_id), store.metrics(paths), store.script(paths))))
        found.append(
            repr((bad, bad_metrics, [sorted(set(map(repr, f))) for f in (facts, metric_facts)]))
        )
    return found


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path / "history", login_of(os.getuid()))
    store.prepare()
    return store


@pytest.mark.parametrize(
    ("deed", "runs", "pause"), [("seal", RUNS, 0.05), ("remove", RUNS, 0.01), ("unseal", 5, 0.02)]
)
def test_killed_anywhere_a_run_reads_as_before(
    store: FileStore, deed: str, runs: int, pause: float
) -> None:
    """At seeded moments while runs are sealed or unsealed, or while their journals are removed."""
    landed = 0
    for seed in range(10 * KILLS):
        for number in range(runs):
            make_run(store, seed * runs + number)
        if deed != "seal":
            sealed_all(store)
        expected = told(store)
        words = [sys.executable, "-c", SEALER, str(store.workspace), deed]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
            first = child.stdout.readline()
            time.sleep(random.Random(seed).uniform(0, pause))
            child.send_signal(signal.SIGKILL)
            acknowledged = len((first + child.stdout.read()).split())
        assert told(store) == expected
        landed += child.returncode == -signal.SIGKILL and 0 < acknowledged < runs
        finish(store)
        if landed == KILLS:
            return
    pytest.fail(f"only {landed} kills landed while it was at work")


def sealed_all(store: FileStore) -> None:
    for run_id in store.run_ids():
        seal(store.stored(store.paths(run_id)))


def finish(store: FileStore) -> None:
    """Who comes next brings it to an end; then there is one file of each run.

    Where half of the journals were written back, these wait until those that are kept are gone.
    """
    expected = told(store)
    for run_id in store.run_ids() * 2:
        run = store.stored(store.paths(run_id))
        seal(run)
        remove_journals(run, before=1e12)
        assert run.located() == str(run.sealed_path(run.seals()[0]))
    assert told(store) == expected
    assert os.listdir(store.own.active) == []
    for path in Path(store.own.runs).rglob("*.h5"):
        path.unlink()


def test_two_who_seal_at_once_do_no_harm(store: FileStore) -> None:
    for number in range(RUNS):
        make_run(store, number)
    expected = told(store)
    # Journals are kept for days: nobody removes them while another still seals.
    for deed in ("seal", "remove"):
        words = [sys.executable, "-c", SEALER, str(store.workspace), deed]
        children = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(3)]
        for child in children:
            child.communicate()
        assert [child.returncode for child in children] == [0] * 3
        assert told(store) == expected
    finish(store)


def test_a_run_that_some_delete_while_another_seals_it_is_gone(store: FileStore) -> None:
    at_once = threading.Barrier(3)

    def act(deed: Callable[[], object], pause: float) -> None:
        at_once.wait()
        time.sleep(pause)
        deed()

    def sealed(paths: RunPaths) -> None:
        with contextlib.suppress(StoreError):
            seal(store.stored(paths))

    with ThreadPoolExecutor(3) as pool:
        for number in range(60):
            paths, pause = make_run(store, number, 30), random.Random(number).uniform(0, 0.01)
            deeds = [partial(sealed, paths), partial(remove, paths), partial(remove, paths)]
            list(pool.map(act, deeds, [0, pause, pause]))
            assert not store.has(paths.run_id, store.user)
            assert list(Path(store.own.active).iterdir()) == []
            assert not Path(paths.files).exists()


class UnsealedMeanwhile(StoredRun):
    """Somebody unseals it between two looks."""

    @property
    def is_whole(self) -> bool:
        unseal(StoredRun(self.paths))
        return super().is_whole


def test_what_is_read_of_a_run_that_is_unsealed_just_then_is_there(store: FileStore) -> None:
    paths = make_run(store, 0, 3)
    seal(store.stored(paths))
    run = UnsealedMeanwhile(paths)
    assert run.text("run.json") == Path(paths.request).read_bytes()
    assert run.text("files.json") is None


class SealedMeanwhile(FileStore):
    """Somebody seals the run between the opening of a journal and its first fact."""

    def journal(self, record: RunPaths, attempt: Attempt, suffix: str = JOURNAL_SUFFIX) -> Journal:
        run = self.stored(record)

        class Slow(Journal):
            def write(self, line: bytes) -> None:
                seal(run)
                super().write(line)

        return Slow(super().journal(record, attempt, suffix).path, attempt)


def test_what_is_told_of_a_run_that_is_sealed_just_then_is_seen(store: FileStore) -> None:
    paths = make_run(store, 0, 3)
    slow = SealedMeanwhile(store.workspace, store.user)
    for tag in "xy":  # of a run that is not sealed yet, and of one that is
        slow.append(paths, Attempt(1), "tags", {"set": {tag: ""}})
        assert tag in store.read(paths.run_id).tags
    seal(store.stored(paths))
    assert {*"xy"} <= {*store.read(paths.run_id).tags}


# -- a full disk --------------------------------------------------------------------------------

PAGE, DISK = 4096, 2 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder)]
    mount = subprocess.run(words, capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mount.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_full_while_sealing(disk: Path) -> None:
    """Page by page more room, until it succeeds."""
    store = FileStore(disk / "history", "alice")
    store.prepare()
    run = store.stored(make_run(store, 0, points=3000))
    expected = told(store)
    refused = 0
    for pages in range(200):
        leave_room(disk, pages)
        try:
            seal(run)
        except StoreError as error:
            refused += 1
            assert "No space left on device" in error.message
            assert run.seals() == []
            assert not list(Path(run.paths.sealed).parent.rglob(".*"))
            assert told(store) == expected
            continue
        break
    assert run.seals() == [0] and refused > 3
    assert told(store) == expected
    (disk / "filler").unlink()
    remove_journals(run, before=1e12)
    assert told(store) == expected


def leave_room(disk: Path, pages: int) -> None:
    with (disk / "filler").open("ab") as filler:
        os.truncate(filler.fileno(), 0)
        room = os.statvfs(disk).f_bavail - pages
        assert room > 0
        os.posix_fallocate(filler.fileno(), 0, room * PAGE)


@pytest.mark.parametrize("size", [0, 1000, 5000])
def test_a_limit_of_size_while_sealing(store: FileStore, size: int) -> None:
    """As a quota that is hit in the middle of the file."""
    make_run(store, 0)
    expected = told(store)
    words = [sys.executable, "-c", SEALER, str(store.workspace), "seal"]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    assert done.returncode == 1 and "StoreError: cannot seal run" in done.stderr, done.stderr
    assert "File too large" in done.stderr
    assert told(store) == expected
    assert not list(Path(store.own.runs).rglob("*.h5"))
    finish(store)
