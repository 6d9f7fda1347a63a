"""A sealed run gives back what was put into it, and says so when it is damaged."""

from __future__ import annotations

import os
import random
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.layout import Attempt
from hpcrun.metrics import metrics_of
from hpcrun.metrics.values import scalar
from hpcrun.record import Fact, is_well_formed
from hpcrun.store.content import Content, Journal, same
from hpcrun.store.formats import NewerFormat
from hpcrun.store.hdf5 import CHUNK, HEAD, WHOLE, Columns, Damaged, Head, check, encode
from hpcrun.store.sealed import KIND, open_sealed, sealed

RUN_ID = "digits_1700000000_0123abcd"

NUMBERS = st.floats() | st.integers(-(2**70), 2**70)
VALUES = st.none() | st.booleans() | NUMBERS | st.text(max_size=4)
NAMES = st.sampled_from(["loss", "acc", "ünı/cö\ude00d e", "n"])


ODD = st.sampled_from([{"v": 1.5, "s": None}, {"v": 1.5, "r": 0}, {"v": 1, "z": 2}])


@st.composite
def datas(draw: st.DrawFn, plain: bool) -> dict[str, Any]:
    """The data of a metric fact, in every form; or a number in its plainest form."""
    forms = ["number"] if plain else ["number"] * 6 + ["any", "list", "row", "odd"]
    name, form = draw(NAMES), draw(st.sampled_from(forms))
    data: dict[str, Any] = {"m": name}
    if form == "number":
        data["v"] = scalar(draw(st.floats() if name == "loss" else NUMBERS))
    elif form == "any":
        data["v"] = scalar(draw(VALUES))
    elif form == "list":
        data |= {"y": "list", "v": draw(st.lists(VALUES.map(scalar), max_size=3))}
    elif form == "row":
        data |= {"y": "row", "v": draw(st.dictionaries(NAMES, VALUES.map(scalar), max_size=3))}
    else:
        data |= draw(ODD)
    if form in ("number", "any"):
        step, rank = draw(st.none() | st.integers(0, 4)), draw(st.integers(0, 2))
        data |= ({} if step is None else {"s": step}) | ({"r": rank} if rank else {})
    return data


@st.composite
def facts(draw: st.DrawFn) -> list[Fact]:
    """What several writers told, each fact with its own place."""
    found = []
    plain = draw(st.booleans())
    times = st.floats(0, 1e10).map(lambda t: round(t, 3))
    for number, data in enumerate(draw(st.lists(datas(plain), max_size=30)), 1):
        writer = draw(st.sampled_from(["a", "b"]))
        attempt = Attempt(draw(st.integers(1, 2)), draw(st.integers(0, 1)))
        time = draw(times if plain else times | st.just(1.00051))
        found.append(Fact("metric", attempt, time, number, data, f"{writer}.metrics.jsonl"))
    return [fact for fact in found if is_well_formed(fact)]


def file_of(tmp_path: Path, facts: list[Fact], **texts: bytes) -> Path:
    path = tmp_path / "run.h5"
    journals = [Journal.of("a.jsonl", b"1\n2", 2, 0)]
    path.write_bytes(sealed(Content(RUN_ID, texts, facts, journals)))
    return path


@given(facts(), st.randoms(use_true_random=False))
def test_metrics_come_back(
    tmp_path_factory: pytest.TempPathFactory, facts: list[Fact], chance: random.Random
) -> None:
    path = file_of(tmp_path_factory.mktemp("sealed"), facts)
    chance.shuffle(facts)
    with open_sealed(path) as run:
        assert same(run.metric_facts(), facts)
        expected = metrics_of(facts)
        assert {name: repr(run.metric(name)) for name in run.series} == {
            name: repr(metric) for name, metric in expected.items()
        }
        for name, series in run.series.items():
            assert (series.kind, series.length) == (expected[name].kind, expected[name].count)


def test_numbers_lie_in_columns(tmp_path: Path) -> None:
    """Most metrics are read without a line of JSON."""
    values = [0.5, 1, {"f": "nan"}, 2]
    found = [
        Fact("metric", Attempt(1), 1.5, number, {"m": "x", "v": value, "s": number}, "w")
        for number, value in enumerate(values)
    ]
    with open_sealed(file_of(tmp_path, found)) as run:
        assert run.series["x"].in_columns and run.series["x"].last == 2.0
        steps, numbers = run.points("x")
        assert (list(steps), repr(list(map(float, numbers)))) == (
            [0, 1, 2, 3],
            "[0.5, 1.0, nan, 2.0]",
        )


PLAIN = Fact("metric", Attempt(1), 1.5, 1, {"m": "x", "v": 0.5}, "w")
ODD_FACTS = [
    PLAIN._replace(data={"m": "x", "v": 0.5, "r": 0}),
    PLAIN._replace(data={"m": "x", "v": 0.5, "s": None}),
    PLAIN._replace(data={"m": "x", "v": 0.5, "z": 1}),
    PLAIN._replace(data={"m": "x", "v": 0.5, "s": 2**63}),
    PLAIN._replace(data={"m": "x", "v": 0.5, "s": -1}),
    PLAIN._replace(data={"m": "x", "v": True}),
    PLAIN._replace(data={"m": "x", "v": 2**53 + 1}),
    PLAIN._replace(data={"m": "x", "v": float("nan")}),
    PLAIN._replace(time=1.00051),
    PLAIN._replace(number=2**63),
    PLAIN._replace(data={"v": 1}),
    PLAIN._replace(kind="foreign"),
]


@pytest.mark.parametrize("odd", ODD_FACTS, ids=repr)
def test_what_does_not_fit_the_columns_comes_back_too(tmp_path: Path, odd: Fact) -> None:
    """Of what no journal tells, since it has another form, nothing comes back."""
    found = [odd, PLAIN._replace(number=7)]
    with open_sealed(file_of(tmp_path, found)) as run:
        assert same(run.metric_facts(), filter(is_well_formed, found))


def test_texts_and_journals_come_back(tmp_path: Path) -> None:
    texts = {"run.json": b"{}", "script.sh": b"\xff\0" * 40_000, "empty.jsonl": b""}
    with open_sealed(file_of(tmp_path, [], **texts)) as run:
        assert (run.run_id, dict(run.texts), run.metric_facts()) == (RUN_ID, texts, [])
        assert run.journals == {"a.jsonl": Journal("a.jsonl", 2, 3, zlib.crc32(b"1\n"), 0)}


IMAGE = {"m": "i", "y": "image", "v": f"images/i-{'0' * 12}.png", "size": 9, "sha256": "0" * 64}
FOLLOWED = {
    "file": "m.csv", "turn": 1, "from": 0, "before": 0, "to": 9, "sum": 1, "inode": 2,
    "points": 1, "skip": 0,
}  # fmt: skip


def test_images_and_notes_come_back(tmp_path: Path) -> None:
    """Journals of images byte for byte; of metric files and nodes what was told, by itself too."""
    image = PLAIN._replace(number=2, data=IMAGE)
    notes = [
        image,
        PLAIN._replace(number=3, kind="followed", data=FOLLOWED),
        PLAIN._replace(number=4, kind="system", data={"host": "n1", "cpus": 2, "cpu_percent": 7.5}),
    ]
    artifacts = {"a.artifacts.jsonl": b"\xff\n" * CHUNK, "b.artifacts.jsonl": b"", "c": b"1"}
    path = tmp_path / "run.h5"
    path.write_bytes(sealed(Content(RUN_ID, {}, [PLAIN, *notes], [], artifacts)))
    with open_sealed(path) as run:
        assert dict(run.artifacts) == artifacts and dict(run.texts) == {}
        assert same(run.notes(), notes) and same(run.metric_facts(), [PLAIN, *notes])
        assert (run.series["i"].kind, run.metric("i").values) == ("image", [IMAGE["v"]])


def test_what_is_told_otherwise_is_not_the_same() -> None:
    fact = Fact("metric", Attempt(1), 1.0, 1, {"m": "x", "v": 1}, "w")
    assert same([fact, fact], [fact])
    for other in (fact._replace(data={"m": "x", "v": 1.0}), fact._replace(time=1.001)):
        assert not same([fact], [other])
    assert not same([fact], []) and not same([fact], [fact, fact._replace(number=2)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    noise = random.Random(1).randbytes(3 * CHUNK)
    return file_of(tmp_path, [], text=noise)


def test_a_whole_file_passes(path: Path) -> None:
    assert check(path, KIND).size == path.stat().st_size


@pytest.mark.parametrize("size", [0, 1, HEAD - 1, HEAD, HEAD + 100, -1])
def test_a_cut_file_is_damaged(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    for read in (lambda: open_sealed(path), lambda: check(path, KIND)):
        with pytest.raises(Damaged):
            read()


@pytest.mark.parametrize("place", [HEAD + 3, HEAD + 900, -40, -CHUNK, -2 * CHUNK])
def test_a_flipped_bit_is_found(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(Damaged, match="checksum"):
        check(path, KIND)


def test_other_kinds_and_formats_are_told(path: Path) -> None:
    path.write_bytes(encode("index", 1, {}))
    with pytest.raises(Damaged, match="of kind index, not run"):
        open_sealed(path)
    path.write_bytes(encode(KIND, 999, {}))
    with pytest.raises(NewerFormat, match=r"was written in format 999.*; this .* reads up to 1"):
        open_sealed(path)
    path.write_bytes(encode(KIND, 0, {}))
    with pytest.raises(Damaged, match="there is no format 0"):
        open_sealed(path)


def test_what_is_no_file_of_its_own_is_damaged(path: Path, tmp_path: Path) -> None:
    """Another user's folder may hold anything: no link is followed, no pipe waited for."""
    link, pipe, folder = (tmp_path / name for name in ("link.h5", "pipe.h5", "folder.h5"))
    link.symlink_to(path)
    os.mkfifo(pipe)
    folder.mkdir()
    for hostile in (link, pipe, folder):
        for read in (open_sealed, lambda path: check(path, KIND)):
            with pytest.raises(Damaged):
                read(hostile)
    with pytest.raises(FileNotFoundError):
        open_sealed(tmp_path / "gone.h5")


def lying(tmp_path: Path, add: Callable[[Any], object]) -> Columns:
    """A whole file by its head, with what `add` puts in place of its column."""
    import h5py

    path = tmp_path / "lying.h5"
    with h5py.File(path, "w", userblock_size=HEAD) as file:
        add(file)
    image = path.read_bytes()[HEAD:]
    path.write_bytes(Head(KIND, 1, HEAD + len(image), zlib.crc32(image)).encode() + image)
    return Columns(path, KIND)


def test_a_column_that_lies_is_damaged(path: Path, tmp_path: Path) -> None:
    import h5py

    def link(file: Any) -> None:
        file["x"] = h5py.ExternalLink(str(path), "text")

    def linked_group(file: Any) -> None:
        file["x"] = h5py.ExternalLink(str(path), "/")

    lies: list[Callable[[Any], object]] = [
        lambda file: file.create_dataset("x", (2**40,), "u1", chunks=(2**20,)),
        lambda file: file.create_dataset("x", (9,), "u1", external=[(str(path), 0, 9)]),
        lambda file: file.create_dataset("x", (9,), "u1", chunks=(2**30,), maxshape=(None,)),
        lambda file: file.create_dataset("x", data=[b"text"]),
        lambda file: file.create_dataset("x", data=[[1, 2]]),
        lambda file: file.create_group("x"),
        lambda file: None,
        link,
        linked_group,
    ]
    for lie in lies:
        name = "x/text" if lie is linked_group else "x"
        with lying(tmp_path, lie) as columns, pytest.raises(Damaged, match=f"column {name} cannot"):
            columns.read(name)


def test_a_series_of_more_rows_than_there_are_is_damaged(path: Path) -> None:
    with open_sealed(GOLDEN) as run:
        columns = {name: run._columns.read(name) for name in run._columns._names()}
    texts = {name: columns[name].tobytes() for name in ("catalog", "text", "lines")}
    codes = zip(("value", "step", "time", "number", "origin", "whole"), "dqqqIB", strict=True)
    told = {f"points/{n}": array(code, columns[f"points/{n}"].tolist()) for n, code in codes}
    path.write_bytes(encode(KIND, 1, {**texts, **told, "points/step": array("q")}))
    with open_sealed(path) as run, pytest.raises(ValueError, match="column step is too short"):
        run.metric("loss")


def test_columns_are_read_in_part(tmp_path: Path) -> None:
    """Of arrays in one piece and in chunks."""
    for length in (0, 5, WHOLE, 2 * WHOLE):
        path = tmp_path / f"{length}.h5"
        path.write_bytes(encode("x", 1, {"a": array("q", range(length))}))
        with Columns(path, "x") as columns:
            for start, stop in ((0, None), (2, 4), (4000, 4100), (length, length)):
                assert columns.read("a", start, stop).tolist() == list(range(length))[start:stop]


GOLDEN = Path(__file__).with_name("golden") / "sealed_1.h5"
"""A file as the first version of the format has it. It stays: every later hpcrun must read it."""

GOLDEN_TEXTS = {
    "run.json": b'{"run_id": "digits_1700000000_0123abcd"}\n',
    "script.sh": b"#!/bin/sh\n",
}
GOLDEN_FACTS = [
    *(PLAIN._replace(number=n, data={"m": "loss", "v": 1 / n, "s": n}) for n in range(1, 6)),
    PLAIN._replace(number=6, data={"m": "loss", "v": {"f": "nan"}, "s": 6, "r": 1}),
    PLAIN._replace(number=7, data={"m": "epoch", "v": 3}),
    PLAIN._replace(number=8, data={"m": "scores", "y": "row", "v": {"a": 1, "b": "x"}}),
]


def test_the_first_format_is_read_for_ever() -> None:
    check(GOLDEN, KIND)
    with open_sealed(GOLDEN) as run:
        assert (run.run_id, dict(run.texts)) == (RUN_ID, GOLDEN_TEXTS)
        assert same(run.metric_facts(), GOLDEN_FACTS)
        assert list(run.series) == ["epoch", "loss", "scores"]
        assert run.metric("epoch").values == [3]
        assert run.journals == {"a.jsonl": Journal("a.jsonl", 2, 3, zlib.crc32(b"1\n"), 0)}


def test_the_documented_lines_read_a_series(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """docs/run_history.md shows how to do without hpcrun."""
    text = (Path(__file__).parents[1] / "docs" / "run_history.md").read_text()
    lines = text.partition("```python\n")[2].partition("```")[0]
    (tmp_path / f"{RUN_ID}.h5").write_bytes(GOLDEN.read_bytes())
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(lines, found)
    assert found["steps"].tolist() == [1, 2, 3, 4, 5, 6]
    assert found["values"].tolist()[:5] == [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
