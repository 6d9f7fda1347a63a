"""What is lost by kill -9, while the store hangs, and on a full disk; of peers too."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.logger import NAMES
from benchmarks.logging_program import Program, lacking, logging
from benchmarks.points import Points, kept, settle
from benchmarks.row import Row
from hpcrun import Workspace
from hpcrun.errors import StoreError
from hpcrun.store.sealing import seal

RATES = (200, 1_000, 50_000)
KILLS = 5
"""Kills at each rate, each at a moment of its own."""

PEERS = {"mlflow": "MLflow on SQLite", "wandb": "wandb offline", "trackio": "trackio"}

HANGS = 5
HANG_RATE = 1_000
HANG = 3.0
"""Seconds for which the store hangs; the process is killed in the last of them."""

DISK = 32 << 20
ROOM = 256 << 10
"""Bytes of a small disk, and what is free on it when logging begins."""

FULL_STEPS = 20_000
PAGE = 4096


class Unmountable(RuntimeError):
    """No small disk can be had here."""


def rows() -> Iterator[Row]:
    """All of them; each fault is made so often as it says."""
    absent = {kind: why for kind in PEERS if (why := lacking(kind))}
    yield from _kills(absent)
    for part in (_hangs(absent), _full(), _full_while_sealing()):
        try:
            yield from part
        except Unmountable as why:
            yield Row.skipped("faults", str(why))


class _Loss(NamedTuple):
    """Calls that had returned, and how many of their points cannot be read."""

    returned: int
    lost: int
    seconds: float = 0


def _lost(kind: str, folder: Path, run_id: str, returned: int) -> int:
    try:
        there: Points = kept(kind, folder, run_id)
    except RuntimeError:
        there = set()
    return len({(NAMES[n % len(NAMES)], n // len(NAMES)) for n in range(returned)} - there)


# -- kill -9 --------------------------------------------------------------------------------------


def _kills(absent: dict[str, str]) -> Iterator[Row]:
    for kind in ("hpcrun", *PEERS):
        for rate in RATES:
            what = f"points lost by {KILLS} × kill -9, of calls that had returned, {rate:,} calls/s"
            what = what if kind == "hpcrun" else f"{what}: {PEERS[kind]}"
            if kind in absent:
                yield Row.skipped(what, absent[kind])
                continue
            found = [_killed(kind, rate, random.uniform(1, 2)) for _ in range(KILLS)]
            lost, returned = sum(one.lost for one in found), sum(one.returned for one in found)
            reached = returned / sum(one.seconds for one in found)
            own = kind == "hpcrun"
            yield Row(
                what,
                f"{lost:,} of {returned:,}",
                "-",
                f"{reached:,.0f} calls/s reached",
                "0" if own else "-",
                not lost if own else None,
            )


def _killed(kind: str, rate: int, seconds: float) -> _Loss:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place, ExitStack() as stack:
        folder = Path(place, "store")
        folder.mkdir()
        counter = Path(place, "returned")
        program = stack.enter_context(logging(kind, folder, 10 * rate, rate, counter))
        run_id = program.wait_ready()
        program.begin()
        began = time.perf_counter()
        time.sleep(seconds)
        program.kill()
        took = time.perf_counter() - began
        settle(kind, folder, run_id)
        returned = program.returned
        return _Loss(returned, _lost(kind, folder, run_id, returned), took)


# -- a store that hangs ---------------------------------------------------------------------------


def _hangs(absent: dict[str, str]) -> Iterator[Row]:
    asked = int(HANG * HANG_RATE)
    for kind in ("hpcrun", *PEERS):
        told = "" if kind == "hpcrun" else f": {PEERS[kind]}"
        if kind in absent:
            yield Row.skipped(f"a store that hangs{told}", absent[kind])
            continue
        found = [_hung(kind) for _ in range(HANGS)]
        went_on = sum(one.meanwhile for one in found) / HANGS
        lost, returned = sum(one.lost for one in found), sum(one.returned for one in found)
        own = kind == "hpcrun"
        yield Row(
            f"calls that return while the store hangs for {HANG:g} s, {HANG_RATE:,} calls/s{told}",
            f"{went_on:,.0f}",
            f"{asked:,} asked for",
            f"{went_on / asked:.2f}×",
            "all" if own else "-",
            went_on > 0.95 * asked if own else None,
        )
        yield Row(
            f"points lost by {HANGS} × kill -9 then, of calls that had returned{told}",
            f"{lost:,} of {returned:,}",
            "-",
            "-",
            "0" if own else "-",
            not lost if own else None,
        )


class _Hang(NamedTuple):
    returned: int
    meanwhile: int
    lost: int


def _hung(kind: str) -> _Hang:
    """The store is a file system of its own that is frozen: every write to it waits."""
    with tempfile.TemporaryDirectory() as place, _ext4(Path(place)) as folder:
        counter = Path(place, "returned")
        program = Program(kind, folder, 10 * HANG_RATE, HANG_RATE, counter)
        try:
            run_id = program.wait_ready()
            program.begin()
            time.sleep(1)
            with _frozen(folder):
                before = program.returned
                time.sleep(HANG)
                meanwhile = program.returned - before
                program.signal_kill()
                time.sleep(0.2)
        finally:
            program.kill()
        settle(kind, folder, run_id)
        returned = program.returned
        return _Hang(returned, meanwhile, _lost(kind, folder, run_id, returned))


@contextmanager
def _frozen(folder: Path) -> Iterator[None]:
    _run("fsfreeze", "--freeze", str(folder))
    try:
        yield
    finally:
        _run("fsfreeze", "--unfreeze", str(folder))


@contextmanager
def _ext4(place: Path) -> Iterator[Path]:
    image, folder = place / "image", place / "store"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    _run("mkfs.ext4", "-q", str(image))
    with _mounted(folder, "-o", "loop", str(image)):
        yield folder


@contextmanager
def _mounted(folder: Path, *words: str) -> Iterator[None]:
    _run("mount", *words, str(folder))
    try:
        yield
    finally:
        for _ in range(50):  # a process of a peer may need a while to go
            with suppress(Unmountable):
                _run("umount", str(folder))
                break
            time.sleep(0.1)
        else:
            _run("umount", "--lazy", str(folder))


def _run(*words: str) -> None:
    if os.geteuid() != 0:
        raise Unmountable("mounting a small disk needs root")
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unmountable(f"{words[0]}: {error.strerror}") from error
    if done.returncode:
        raise Unmountable(f"{' '.join(words)}: {done.stderr.strip()}")


# -- a full disk ----------------------------------------------------------------------------------


@contextmanager
def _disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with _mounted(folder, "-t", "tmpfs", "-o", f"size={DISK}", "none"):
            yield folder


def _leave(disk: Path, room: int) -> None:
    """Fills it up to so many bytes."""
    with (disk / "filler").open("ab") as filler:
        os.truncate(filler.fileno(), 0)
        pages = os.statvfs(disk).f_bavail - room // PAGE
        os.posix_fallocate(filler.fileno(), 0, pages * PAGE)


def _full() -> Iterator[Row]:
    found = {kind: [_filled(kind) for _ in range(KILLS)] for kind in ("hpcrun", "h5py")}
    for kind, told in (("hpcrun", ""), ("h5py", ": h5py, appended in place")):
        losses = found[kind]
        lost, returned = sum(one.lost for one in losses), sum(one.returned for one in losses)
        alive = sum(one.alive for one in losses)
        own = kind == "hpcrun"
        yield Row(
            f"points lost where a disk fills up {KILLS} times, of calls that had returned{told}",
            f"{lost:,} of {returned:,}",
            "-",
            f"training goes on {alive} times",
            f"0, {KILLS} times" if own else "-",
            (not lost and alive == KILLS) if own else None,
        )


class _Full(NamedTuple):
    returned: int
    lost: int
    alive: bool


def _filled(kind: str) -> _Full:
    """Logs more than there is room for; then there is room again."""
    with _disk() as disk, tempfile.TemporaryDirectory() as place:
        counter = Path(place, "returned")
        program = Program(kind, disk, FULL_STEPS, 0, counter)
        try:
            run_id = program.wait_ready()
            _leave(disk, ROOM)
            program.begin()
            with suppress(RuntimeError):
                program.seconds()
            alive = program.is_alive
            (disk / "filler").unlink()
        finally:
            program.close()
        settle(kind, disk, run_id)
        returned = program.returned
        return _Full(returned, _lost(kind, disk, run_id, returned), alive)


def _full_while_sealing() -> Iterator[Row]:
    with _disk() as disk:
        with logging("hpcrun", disk, 2_000, 0, disk / "returned") as program:
            run_id = program.wait_ready()
            program.begin()
            program.seconds()
        settle("hpcrun", disk, run_id)
        store = Workspace(disk).session.store
        run = store.stored(store.paths(run_id))
        every = kept("hpcrun", disk, run_id)
        refused, lost = 0, 0
        for pages in range(0, 400, 2):
            _leave(disk, pages * PAGE)
            with suppress(StoreError):
                seal(run)
                break
            refused += 1
            lost += len(every - kept("hpcrun", disk, run_id))
        lost += len(every - kept("hpcrun", disk, run_id))
        yield Row(
            f"points lost where the disk is full while sealing, {refused} times",
            f"{lost:,} of {len(every):,}",
            "-",
            "-",
            "0",
            not lost and len(every) == 2_000 * len(NAMES),
        )
