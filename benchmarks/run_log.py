"""run.log: a call's time, and many processes at once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.logger import NAMES
from benchmarks.logging_program import lacking, logging
from benchmarks.points import kept
from benchmarks.row import Row

STEPS = 20_000
MLFLOW_STEPS = 100
"""Fewer, since its calls take milliseconds."""

CALL_AIM = 1.5
MLFLOW_AIM = 100.0

CROWDS = (8, 64)
CROWD_STEPS = {"raw": 2_000, "hpcrun": 2_000, "mlflow": 10}
CROWD_AIM = 1.2
"""Times as long a point may take among 64 processes as among 8."""


def rows(count: int) -> Iterator[Row]:
    """All of them. count: turns of what is timed."""
    yield from _calls(count)
    yield from _crowds()


# -- one process ----------------------------------------------------------------------------------


def _calls(count: int) -> Iterator[Row]:
    peers = {"tensorboard": "tensorboardX, which writes later", "mlflow": "MLflow on SQLite"}
    absent = {kind: why for kind in peers if (why := lacking(kind))}
    kinds = [kind for kind in ("raw", "hpcrun", *peers) if kind not in absent]
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(count + 1):
        for kind in kinds:
            seconds = _call(kind, MLFLOW_STEPS if kind == "mlflow" else STEPS)
            if turn:
                took[kind].append(seconds)
    call = {kind: median(times) for kind, times in took.items()}
    own = call["hpcrun"]
    what = f"run.log, {STEPS:,} points × {len(NAMES)} names, a call"
    ratio = own / call["raw"]
    yield _call_row(
        f"{what}, against a raw append", own, call["raw"], f"≤ {CALL_AIM:g}×", ratio <= CALL_AIM
    )
    for kind, words in peers.items():
        if kind in absent:
            yield Row.skipped(f"{what}, against {words}", absent[kind])
        else:
            aim = kind == "mlflow"
            met = call[kind] / own >= MLFLOW_AIM if aim else None
            told = f"{MLFLOW_AIM:g}× faster" if aim else "-"
            yield _call_row(f"{what}, against {words}", own, call[kind], told, met)


def _call_row(what: str, own: float, other: float, aim: str, met: bool | None) -> Row:
    ratio = f"{own / other:.2f}×" if own * 5 > other else f"{other / own:.0f}× faster"
    return Row(what, _speed(own), _speed(other), ratio, aim, met)


def _speed(call: float) -> str:
    return f"{call * 1e6:.1f} µs, {1 / call:,.0f} points/s"


def _call(kind: str, steps: int) -> float:
    """Seconds that one call takes."""
    with tempfile.TemporaryDirectory() as folder, logging(kind, Path(folder), steps) as program:
        program.wait_ready()
        program.begin()
        return program.seconds() / steps / len(NAMES)


# -- many processes -------------------------------------------------------------------------------


class _Crowd(NamedTuple):
    """point: seconds of the whole for each point. lost: points that are not in the record."""

    point: float
    lost: int | None


def _crowds() -> Iterator[Row]:
    found = {(kind, size): _crowd(kind, size) for size in CROWDS for kind in ("raw", "hpcrun")}
    why = lacking("mlflow")
    for size in CROWDS:
        what = f"{size} processes log to {size} runs of one experiment, a point"
        own, floor = found["hpcrun", size], found["raw", size]
        yield Row(
            f"{what}, against raw appends",
            f"{_speed(own.point)}, {own.lost} lost",
            _speed(floor.point),
            f"{own.point / floor.point:.2f}×",
            "0 lost",
            not own.lost,
        )
        if size == CROWDS[0] and why is None:
            peer = _crowd("mlflow", size)
            yield _call_row(f"{what}, against MLflow on SQLite", own.point, peer.point, "-", None)
        elif size == CROWDS[0]:
            yield Row.skipped(f"{what}, against MLflow on SQLite", str(why))
    few, many = (found["hpcrun", size] for size in CROWDS)
    ratio = many.point / few.point
    yield Row(
        f"a point among {CROWDS[1]} processes, against one among {CROWDS[0]}",
        _speed(many.point),
        _speed(few.point),
        f"{ratio:.2f}×",
        f"≤ {CROWD_AIM:g}×",
        ratio <= CROWD_AIM,
    )


def _crowd(kind: str, size: int) -> _Crowd:
    steps = CROWD_STEPS[kind]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with ExitStack() as stack:
            first = stack.enter_context(logging(kind, folder, steps))
            run_ids = [first.wait_ready()]  # MLflow can make its database only once
            others = [stack.enter_context(logging(kind, folder, steps)) for _ in range(size - 1)]
            run_ids += [program.wait_ready() for program in others]
            programs = [first, *others]
            began = time.perf_counter()
            for program in programs:
                program.begin()
            for program in programs:
                program.seconds()
            took = time.perf_counter() - began
        each = steps * len(NAMES)
        lost = None
        if kind == "hpcrun":
            lost = sum(each - len(kept("hpcrun", folder, run_id)) for run_id in run_ids)
        return _Crowd(took / (size * each), lost)
