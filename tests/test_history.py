"""A listing through the index tells what a look at every run tells, whatever was done before."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import time
from array import array
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcrun.assets import Assets
from hpcrun.errors import StoreError
from hpcrun.layout import INTERACTIVE, RUN_ID, Attempt, RunPaths, sealed_of
from hpcrun.metrics.values import scalar
from hpcrun.record import Fact, Numbers, RunRecord, encode
from hpcrun.state import State
from hpcrun.store.experiments import read_experiment, tell_experiment
from hpcrun.store.hdf5 import encode as encode_columns
from hpcrun.store.history import MANY, cache_of, make_index
from hpcrun.store.index import KEPT, Files, generation_path, open_generation
from hpcrun.store.removal import remove
from hpcrun.store.rows import TIMES, WORDS, Row
from hpcrun.store.sealing import seal, unseal
from hpcrun.store.wanted import Key, Order, Wanted
from hpcrun.workflow.listing import index, list_ids, list_rows
from tests.care import Own

MONTHS = (1_680_000_000, 1_690_000_000, 4_080_000_000)
"""When runs begin: in two months that are over, and in one that is not, also where the tests run as
a month ends."""

NAMES = ("digits", "other_name")


class Lab:
    """A history of this user, and deeds that change it."""

    def __init__(self, root: Path) -> None:
        self.session = Own(root / "history", Assets.of(root, {}))
        self.store = self.session.store
        self.store.prepare()
        self.ids: list[str] = []
        self.made = 0

    def make(
        self, month: int, name: int, code: int, loss: float | None, child: bool = False
    ) -> None:
        number, self.made = self.made, self.made + 1
        seconds = MONTHS[month] + number
        run_id = f"{NAMES[name]}_{seconds}_{number:08x}"
        request = {
            "run_id": run_id,
            "experiment": NAMES[name],
            "user": self.store.user,
            "target": f"local/{code}" if code != 2 else INTERACTIVE,
            "created": seconds + 0.25,
            "tags": {"code": str(code), "k=": '"é', **({"odd": ""} if number % 2 else {})},
            "properties": {"code": str(1 - code)},
            **({"parent": "digits_1680000000_00000000"} if child else {}),
        }
        paths = self.store.create(request, "#!/bin/sh\n")
        self.ids.append(run_id)
        end = {"exit_code": code, "cause": "exit_code" if code else "completed"}
        facts = [Fact("started", Attempt(1), seconds + 1.0, 1, {"host": "n1", "nodes": []})]
        facts.append(Fact("ended", Attempt(1), seconds + 2.0 + 5 * code, 2, end))
        Path(paths.journal("agent")).write_bytes(b"".join(map(encode, facts)))
        if loss is not None:
            data = {"m": "loss", "v": scalar(loss)}
            self.store.append(paths, Attempt(1), "metric", data)

    def seal(self, which: int) -> None:
        if self.ids:
            seal(self.store.stored(self.paths(which)))

    def tag(self, which: int) -> None:
        if self.ids:
            data = {"set": {"n": str(random.random())}}
            self.store.append(self.paths(which), Attempt(1), "tags", data)

    def log(self, which: int, loss: float) -> None:
        if self.ids:
            data = {"m": "loss", "v": scalar(loss)}
            self.store.append(self.paths(which), Attempt(1), "metric", data)

    def remove(self, which: int) -> None:
        if self.ids:
            paths = self.paths(which)
            remove(paths)
            self.ids.remove(paths.run_id)

    def unseal(self, which: int) -> None:
        if self.ids:
            unseal(self.store.stored(self.paths(which)))

    def archive(self, which: int, archived: bool) -> None:
        if self.ids:
            data = {"archived": archived}
            self.store.append(self.paths(which), Attempt(1), "archived", data)

    def archive_experiment(self, name: int, month: int | None) -> None:
        """Its runs until the fourth of a month's; None: shows them again."""
        until = None if month is None else MONTHS[month] + 3.5
        tell_experiment(self.store, NAMES[name], "archived", {"until": until})

    def index(self, anew: bool) -> None:
        index(self.session, anew=anew)

    def paths(self, which: int) -> RunPaths:
        return self.store.paths(self.ids[which % len(self.ids)])

    def rows(self) -> list[Row]:
        """Every run that lies somewhere, newest first."""
        ids = {name for name in os.listdir(self.store.own.active) if RUN_ID.match(name)}
        for path in Path(self.store.own.runs).glob("*/*.h5"):
            known = sealed_of(path.name)
            assert known is not None
            ids.add(known[0])
        newest = sorted(ids, key=lambda run_id: (-int(run_id.split("_")[-2]), run_id))
        return [self.store.row(run_id) for run_id in newest]

    def shows(self, record: RunRecord, children: bool, archived: bool) -> bool:
        hides = read_experiment(self.store, record.experiment).hides(record)
        return (children or record.parent is None) and (archived or not hides)

    def check(self, limit: int | None = None, turn: slice = slice(None)) -> None:
        """turn: which of the filters and orders are tried."""
        rows = self.rows()
        assert self.store.run_ids() == [row.record.run_id for row in rows]
        for children, archived in ((True, True), (False, True), (True, False)):
            kept = [row for row in rows if self.shows(row.record, children, archived)]
            wanted = Wanted(children=children, view="All" if archived else "ActiveOnly")
            assert plain(list_rows(self.session, limit, wanted)) == plain(kept[:limit])
        hidden = [row for row in rows if not self.shows(row.record, True, False)]
        told = list_rows(self.session, limit, Wanted(children=True, view="ArchivedOnly"))
        assert plain(told) == plain(hidden[:limit])
        rows = [row for row in rows if self.shows(row.record, False, False)]
        assert plain(list_rows(self.session, limit)) == plain(rows[:limit])
        for wanted, fits in FILTERS[turn]:
            kept = [row for row in rows if fits(row.record)]
            told = list_rows(self.session, limit, wanted)
            assert plain(told) == plain(kept[:limit]), wanted
            if limit is None:
                ids = [row.record.run_id for row in kept]
                assert list(list_ids(self.session, wanted)) == ids, wanted
        for key in KEYS[turn]:
            for descending in (False, True):
                order = Order(key, descending)
                expected = in_order(rows, key, descending)[:limit]
                told = list_rows(self.session, limit, order=order)
                assert plain(told) == plain(expected), order
                if key.name == "loss":
                    assert [r.metrics.get("loss") for r in told] == [
                        r.metrics.get("loss") for r in expected
                    ]
        both = Wanted(tags={"code": "0"}), Order(Key("loss", "min"))
        kept = in_order([row for row in rows if row.record.tags["code"] == "0"], both[1].key, False)
        assert plain(list_rows(self.session, limit, both[0], order=both[1])) == plain(kept[:limit])


FILTERS: tuple[tuple[Wanted, Callable[[RunRecord], bool]], ...] = (
    *((Wanted(n), lambda run, n=n: run.experiment == n) for n in (*NAMES, "none")),
    *(
        (Wanted(status=state), lambda run, state=state: run.state is state)
        for state in (State.COMPLETED, State.FAILED, State.RUNNING)
    ),
    (Wanted(type=INTERACTIVE), lambda run: run.target == INTERACTIVE),
    (Wanted(type="azureml.scriptrun"), lambda run: run.target != INTERACTIVE),
    (Wanted(type="none"), lambda run: False),
    (Wanted(tags={"code": "1"}), lambda run: run.tags["code"] == "1"),
    (Wanted(tags={"cod": None}), lambda run: False),
    (Wanted(tags={"odd": None}), lambda run: "odd" in run.tags),
    (
        Wanted(tags={"odd": "", "code": "1"}),
        lambda run: {"odd": "", "code": "1"}.items() <= run.tags.items(),
    ),
    (Wanted(tags={"k=": '"é'}), lambda run: True),
    (Wanted(properties={"code": "1"}), lambda run: run.properties["code"] == "1"),
    (Wanted(since=MONTHS[1] + 1), lambda run: run.created >= MONTHS[1] + 1),
    (Wanted(until=MONTHS[1] + 1.5), lambda run: run.created < MONTHS[1] + 2),
    (
        Wanted(since=MONTHS[0] + 1, until=MONTHS[1]),
        lambda run: MONTHS[0] + 1 <= run.created < MONTHS[1],
    ),
)

KEYS = (
    *map(Key, (*TIMES, *WORDS)),
    *(Key("loss", of) for of in Numbers._fields),
    Key("none", "last"),
)


def plain(rows: list[Row]) -> list[Any]:
    """Without what a row has not."""
    return [row.record._replace(request={"parent": row.record.parent}) for row in rows]


def in_order(rows: list[Row], key: Key, descending: bool) -> list[Row]:
    """By Python's own sorting."""
    column = key.name

    def value(row: Row) -> Any:
        record = row.record
        if key.of:
            return getattr(row.metrics.get(column, Numbers()), key.of)
        if column == "took":
            return None if record.ended is None else record.ended - (record.started or math.nan)
        if column in ("created", "started", "ended", "experiment", "target"):
            return getattr(record, column)
        if column == "status":
            return str(record.state)
        return str(record.verdict.cause) if record.verdict else ""

    have = [row for row in rows if value(row) is not None]
    # A sort that is reversed keeps the order of equals.
    ordered = sorted(have, key=value, reverse=descending)
    return ordered + [row for row in rows if value(row) is None]


LOSS_KEY = Key("loss", "last")

WHICH = st.integers(0, 5)
LOSS = st.sampled_from([0.5, 0.25, -1.0, 3.0, math.nan])
DEEDS = st.one_of(
    st.tuples(st.just("make"), st.integers(0, 2), st.integers(0, 1), st.integers(0, 2),
              st.none() | LOSS, st.booleans()),
    st.tuples(st.just("seal"), WHICH),
    st.tuples(st.just("seal"), WHICH),
    st.tuples(st.just("index"), st.booleans()),
    st.tuples(st.just("tag"), WHICH),
    st.tuples(st.just("log"), WHICH, LOSS),
    st.tuples(st.just("remove"), WHICH),
    st.tuples(st.just("unseal"), WHICH),
    st.tuples(st.just("archive"), WHICH, st.booleans()),
    st.tuples(st.just("archive_experiment"), st.integers(0, 1), st.none() | st.integers(0, 2)),
)  # fmt: skip


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(DEEDS, max_size=20), st.sampled_from([None, 1, 3]))
def test_a_listing_is_right_whatever_was_done(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[Any], limit: int | None
) -> None:
    root = tmp_path_factory.mktemp("lab")
    lab = Lab(root)
    for month in range(3):
        lab.make(month, month % 2, month, 0.75)
    for turn, (deed, *what) in enumerate(deeds):
        getattr(lab, deed)(*what)
        lab.check(limit, slice(turn % 4, None, 4))
    shutil.rmtree(root)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path)
    for number in range(9):
        lab.make(number % 3, number % 2, number % 3, number / 8 if number % 4 else None)
    return lab


@pytest.mark.parametrize("limit", [1, 3, None])
def test_what_is_hidden_takes_no_place_on_the_page(lab: Lab, limit: int | None) -> None:
    """Children, archived runs, and the runs so far of an archived experiment, in the index."""
    for child in (True, True, False):
        lab.make(2, 0, 0, 0.5, child)
    for number in (8, 7, 3):
        lab.archive(number, True)
    lab.archive_experiment(1, 1)
    for number in range(len(lab.ids)):
        lab.seal(number)
    index(lab.session)
    with lab.store.history() as history:
        assert history.beside == []
    shown = [row.record.run_id for row in list_rows(lab.session, None)]
    assert shown == [lab.ids[place] for place in (11, 5, 2, 4, 6, 0)]
    lab.check(limit)


def test_nothing_is_opened_that_the_index_knows(lab: Lab) -> None:
    """A sealed file whose content is gone is listed all the same."""
    for number in range(9):
        lab.seal(number)
    index(lab.session)
    expected = plain(list_rows(lab.session, None))
    for path in Path(lab.store.own.runs).glob("*/*.h5"):
        path.write_bytes(b"")
    assert plain(list_rows(lab.session, None)) == expected
    assert len(list_rows(lab.session, None, order=Order(LOSS_KEY))) == 9


def test_closed_months_are_not_listed_again(lab: Lab) -> None:
    for number in range(9):
        lab.seal(number)
    index(lab.session)
    expected = plain(list_rows(lab.session, None))
    closed = [path for path in Path(lab.store.own.runs).iterdir() if path.name.startswith("2023")]
    assert len(closed) == 2
    for path in closed:
        shutil.rmtree(path)
    assert plain(list_rows(lab.session, None)) == expected


def test_marks_go_once_a_generation_knows(lab: Lab) -> None:
    folder = lab.store.own.indexes
    for number in range(9):
        lab.seal(number)
    assert {mark[:4] for mark in Files.of(folder).marks} == {"2023"}
    for _ in range(5):
        index(lab.session)
        assert Files.of(folder).marks == []
    assert Files.of(folder).generations == [5, 4, 3][:KEPT]
    lab.tag(0)
    lab.seal(0)
    assert len(Files.of(folder).marks) == 1
    lab.check()


def test_a_damaged_generation_is_passed_over(lab: Lab) -> None:
    for number in range(9):
        lab.seal(number)
    index(lab.session)
    index(lab.session)
    newest = Path(lab.store.own.indexes, "g00000002.h5")
    os.truncate(newest, newest.stat().st_size - 7)
    lab.check()
    older = newest.with_name("g00000001.h5")
    older.write_bytes(b"")
    lab.check()
    index(lab.session)
    assert Files.of(lab.store.own.indexes).generations == [3, 2, 1]
    lab.check()


def test_two_builders_make_two_generations(lab: Lab) -> None:
    """Who comes second looks again: what the first one saw may be less."""
    lab.seal(0)
    read: list[str] = []

    def row(run_id: str, number: int) -> Row | None:
        if not read:
            read.append(run_id)
            lab.seal(1)
            index(lab.session)
            lab.seal(2)
        return lab.store.row(run_id, None, number)

    assert make_index(lab.store.own, row, time.time()) == 3
    assert Files.of(lab.store.own.indexes).generations == [2, 1]
    lab.check()


def test_a_reader_keeps_an_index_of_anothers_runs(lab: Lab) -> None:
    for number in range(9):
        lab.seal(number)
    index(lab.session)
    own, cache = lab.store.own, lab.session.cache
    lab.make(0, 0, 1, 7.0)
    lab.seal(9)
    count = make_index(own, lambda i, n: lab.store.row(i, None, n), time.time(), cache)
    assert count == 10 and Files.of(own.indexes).generations == [1]
    assert Files.of(cache_of(cache, own, 1)).generations == [1]
    with lab.store.history(None, cache) as history:
        assert (history.fresh, len(history.indexed(None))) == ({}, 10)
    with lab.store.history() as history:
        assert (list(history.fresh), len(history.indexed(None))) == ([lab.ids[9]], 9)
    lab.check()
    # What its owner makes after that counts, whatever was kept.
    lab.tag(0)
    lab.seal(0)
    index(lab.session)
    lab.check()


def test_an_index_is_made_where_it_pays(lab: Lab) -> None:
    for _ in range(MANY):
        lab.make(2, 0, 0, 0.5)
    for number in range(len(lab.ids)):
        lab.seal(number)
    list_rows(lab.session, 20)
    assert Files.of(lab.store.own.indexes).generations == []
    rows = list_rows(lab.session, 20, order=Order(LOSS_KEY))
    assert Files.of(lab.store.own.indexes).generations == [1]
    assert plain(rows) == plain(in_order(lab.rows(), LOSS_KEY, False)[:20])


def test_a_cache_that_cannot_be_had_is_done_without(lab: Lab) -> None:
    for number in range(9):
        lab.seal(number)
    lab.session.cache.write_text("")
    lab.check()
    index(lab.session)
    lab.check()


def test_find_and_last(lab: Lab) -> None:
    for number in range(0, 9, 2):
        lab.seal(number)
    index(lab.session)
    newest = max(lab.ids, key=lambda run_id: int(run_id.split("_")[-2]))
    assert lab.store.find("@last") == (lab.store.user, newest)
    for run_id in lab.ids:
        assert lab.store.find(run_id) == lab.store.find(run_id[:-3]) == (lab.store.user, run_id)


def test_a_run_deleted_while_an_index_is_made_is_gone(lab: Lab) -> None:
    for number in range(9):
        lab.seal(number)

    def row(run_id: str, number: int) -> Row | None:
        found = lab.store.row(run_id, None, number)
        if run_id in lab.ids:
            lab.remove(lab.ids.index(run_id))
        return found

    assert make_index(lab.store.own, row, time.time()) == 9
    assert lab.ids == [] and list_rows(lab.session, None) == []


LIES = (
    lambda run: run | {"run_id": "digits_1680000000_00000000"},
    lambda run: run | {"user": "root2"},
    lambda run: run | {"created": "yesterday"},
    lambda run: run | {"state": "Rich"},
    lambda run: run | {"attempts": []},
    lambda run: run | {"tags": 1},
    lambda run: run | {"request": 1},
    lambda run: run | {"target": 2},
    lambda run: run | {"attempts": [1]},
    lambda run: run | {"problems": [5]},
    lambda run: run | {"created": 1e300},
    lambda run: run | {"attempts": [{**run["attempts"][0], "verdict": {"sentence": 5}}]},
    lambda run: run | {"attempts": [{**run["attempts"][0], "data": [{"host": 5}]}]},
    lambda run: {"run_id": run["run_id"]},
    lambda run: [run],
)


@pytest.mark.parametrize("lie", LIES)
def test_rows_that_lie_are_not_believed(lab: Lab, lie: Callable[[Any], Any]) -> None:
    """The index is its owner's; who reads it believes the sealed files where it cannot be so."""
    for number in range(9):
        lab.seal(number)
    index(lab.session)
    with lab.store.history() as history:
        texts = history.texts()
    last = json.loads(texts[lab.ids[0]])
    texts[lab.ids[0]] = json.dumps({**last, "record": lie(last["record"])}).encode()
    write_lying(lab.store.own.indexes, 2, texts)
    assert Files.of(lab.store.own.indexes).generations[0] == 2
    lab.check()


@pytest.mark.parametrize("catalog", [b"[]", b"{}", b'{"count": "x"}', b'{"count": -1}'])
def test_a_catalog_that_lies_is_not_believed(lab: Lab, catalog: bytes) -> None:
    for number in range(9):
        lab.seal(number)
    index(lab.session)
    with lab.store.history() as history:
        texts = history.texts()
    write_lying(lab.store.own.indexes, 2, texts, catalog)
    lab.check()


def write_lying(
    folder: str, number: int, texts: dict[str, bytes], catalog: bytes | None = None
) -> None:
    """A generation whose columns are the true ones, with other rows, or another catalog."""
    import numpy

    with open_generation(generation_path(folder, 1)) as known:
        true = known._columns
        columns: dict[str, Any] = {}
        for name in map(bytes.decode, true._file):
            values = true.read(name)
            code = {"u1": "B", "u4": "I", "i8": "q", "f8": "d"}[values.dtype.str[1:]]
            columns[name] = array(code, values.astype(numpy.dtype(code)).tolist())
        rows = [texts[run_id] for run_id in known.run_ids]
    columns["row"] = b"".join(rows)
    columns["row_end"] = array("q", accumulate(map(len, rows)))
    columns["catalog"] = columns["catalog"] if catalog is None else catalog
    generation_path(folder, number).write_bytes(encode_columns("index", 1, columns))


def test_what_is_no_plain_file_hides_no_other_run(lab: Lab, tmp_path: Path) -> None:
    for number in range(9):
        lab.seal(number)
    own = lab.store.own
    expected = plain(list_rows(lab.session, None))
    Path(own.indexes).mkdir(exist_ok=True)
    os.mkfifo(generation_path(own.indexes, 7))
    generation_path(own.indexes, 8).symlink_to(tmp_path / "gone")
    generation_path(own.indexes, 9).write_bytes(b"garbage")
    assert plain(list_rows(lab.session, None)) == expected
    # A sealed file that is a pipe, a link or garbage is told, and the others are listed.
    months = sorted(Path(own.runs).iterdir())
    (first, second, third, *_) = sorted(months[0].iterdir())
    for retired in Path(own.active).iterdir():
        shutil.rmtree(retired)
    for path in (first, second, third):
        path.unlink()
    os.mkfifo(first)
    second.symlink_to(sorted(months[1].iterdir())[0])
    third.write_bytes(b"garbage")
    told: list[StoreError] = []
    rows = list_rows(lab.session, None, tell=told.append)
    assert len(rows) == 6 and [error.message.partition(" is damaged")[0] for error in told] == [
        str(third)
    ]
    # Whole folders that somebody else may have put there.
    months[1].rename(tmp_path / "month")
    months[1].symlink_to(tmp_path / "month")
    assert len(list_rows(lab.session, None)) == 3
