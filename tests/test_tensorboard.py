"""Event files of what was logged: read by TensorBoard itself, and by our own reader."""

from __future__ import annotations

import math
import struct
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcrun.agent.follow import event_file as reader
from hpcrun.layout import Attempt
from hpcrun.metrics import metrics_of
from hpcrun.record import Fact
from hpcrun.tensorboard.event_file import Point, beginning, scalar
from hpcrun.tensorboard.folder import RunEvents
from hpcrun.tensorboard.points import additions, points_of

VALUES = st.floats(width=32, allow_nan=False)


def float32(value: float) -> float:
    (kept,) = struct.unpack("<f", struct.pack("<f", value))
    return float(kept)


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's own loader reads of a folder: tag → (step, value)."""
    accumulator: Any = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed",
    )
    loader = accumulator.EventAccumulator(str(folder), size_guidance={accumulator.SCALARS: 0})
    loader.Reload()
    tags = loader.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in loader.Scalars(tag)] for tag in tags}


@given(
    st.text(min_size=1, max_size=20),
    st.integers(0, 2**63 - 1),
    st.floats(),
    st.floats(1, 1e10),
)
def test_our_own_reader_reads_what_is_written(
    tag: str, step: int, value: float, time: float
) -> None:
    data = beginning(5.0) + scalar(Point(tag, step, value, time))
    reading = reader.read(data, "", True)
    (point,) = reading.points
    assert (point.name, point.step, point.time) == (tag, step, time)
    assert (reading.consumed, reading.problem, reading.skipped) == (len(data), "", {})
    limit = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
    if abs(value) <= limit:
        assert point.value == float32(value)
    else:
        assert point.value == {
            "f": repr(math.copysign(math.inf, value) if value == value else value)
        }


def fact(number: int, value: Any, **data: Any) -> Fact:
    return Fact("metric", Attempt(1), 100.0 + number, number, {"m": "x", "v": value, **data}, "w")


def test_which_points_metrics_are() -> None:
    facts = [
        fact(1, 1, s=7),
        fact(2, True),
        fact(3, "a"),
        fact(4, {"f": "inf"}),
        fact(5, 2.5, r=1),
        fact(6, {"i": hex(10**400)}),
        fact(7, 3, s=8),
    ]
    table = Fact("metric", Attempt(1), 1.0, 8, {"m": "t", "y": "row", "v": {"a": 1}}, "w")
    assert list(points_of(metrics_of([*facts, table]))) == [
        Point("x", 7, 1.0, 101.0),
        Point("x", 3, math.inf, 104.0),
        Point("x", 8, 3.0, 107.0),
        Point("x/rank_1", 0, 2.5, 105.0),
    ]


POINTS = st.lists(
    st.builds(
        Point,
        st.sampled_from(["a", "b"]),
        st.integers(0, 6),
        st.integers(0, 3).map(float),
        st.sampled_from([100.0, 200.0]),
    ),
    max_size=12,
    unique_by=lambda point: (point.tag, point.step),
)


@settings(max_examples=40)
@given(st.lists(POINTS, min_size=1, max_size=4))
def test_tensorboard_shows_the_last_of_what_was_wanted(looks: list[list[Point]]) -> None:
    """Whatever came, and went, between two looks; the file is only appended to."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "events.out.tfevents.1700000000.x")
        file.write_bytes(beginning(1.0))
        written: Counter[Point] = Counter()
        for look in looks:
            with file.open("ab") as end:
                end.write(b"".join(additions(written, Counter(look), 300.0)))
            written = Counter(look)
        wanted: dict[str, list[tuple[int, float]]] = {}
        for point in sorted(looks[-1], key=lambda point: point.step):
            wanted.setdefault(point.tag, []).append((point.step, point.value))
        assert {tag: points for tag, points in shown(Path(folder)).items() if points} == wanted


def test_a_folder_is_appended_to(tmp_path: Path) -> None:
    events = RunEvents(tmp_path / "run", 1700000000.0)
    facts = [fact(1, 0.25, s=0), fact(2, {"f": "nan"}, s=1)]
    assert events.show(metrics_of(facts)) == 2
    first = events.file.read_bytes()
    assert events.show(metrics_of(facts)) == 2
    assert events.file.read_bytes() == first
    facts.append(fact(3, 0.5, s=2))
    events.show(metrics_of(facts))
    later = events.file.read_bytes()
    assert later.startswith(first) and later != first
    (nan,) = [value for step, value in shown(tmp_path / "run")["x"] if step == 1]
    assert math.isnan(nan)
    again = Fact("metric", Attempt(1, 1), 500.0, 1, {"m": "x", "v": 0.75, "s": 1}, "w2")
    events.show(metrics_of([*facts, again]))
    assert events.file.read_bytes().startswith(later)
    assert shown(tmp_path / "run")["x"] == [(0, 0.25), (1, 0.75), (2, 0.5)]


def test_links_lead_to_event_files_only(tmp_path: Path) -> None:
    files = tmp_path / "files"
    names = ["logs/train/events.out.tfevents.1.host", "outputs/model.pt", "outputs/x.tfevents"]
    for name in names:
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text(name)
    events = RunEvents(tmp_path / "run", 1700000000.0)
    events.link(files, names)
    events.link(files, names)
    found = [path for path in (tmp_path / "run").rglob("*") if path.is_symlink()]
    assert sorted(path.relative_to(tmp_path / "run").as_posix() for path in found) == [
        names[0],
        names[2],
    ]
    assert all(path.read_text() in names for path in found)
