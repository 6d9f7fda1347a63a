"""A run gives the same answer whether it lies in journals, in a sealed file, or in both."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.agent.follow import recorded
from hpcrun.agent.follow.follower import Follower
from hpcrun.agent.follow.patterns import Pattern
from hpcrun.errors import StoreError
from hpcrun.journal import Journal
from hpcrun.layout import (
    ARTIFACTS_SUFFIX,
    JOURNAL_SUFFIX,
    METRICS_SUFFIX,
    Attempt,
    JournalKind,
    RunPaths,
)
from hpcrun.record import Fact, RunRecord, encode
from hpcrun.store import FileStore
from hpcrun.store.content import same
from hpcrun.store.sealing import remove_journals, seal, unseal
from tests.test_sealed import FOLLOWED, IMAGE
from tests.test_sealed import facts as metric_facts

RUN_ID = "digits_1700000000_0123abcd"
REQUEST = {
    "run_id": RUN_ID,
    "experiment": "digits",
    "user": "alice",
    "target": "local",
    "created": 1700000000.5,
    "tags": {"a": "1"},
    "snapshot": {"digest": "0" * 64},
}

TOLD = st.one_of(
    st.tuples(st.just("tags"), st.dictionaries(st.text("abc", max_size=2), st.text(max_size=3))
              .map(lambda tags: {"set": tags})),
    st.tuples(st.just("submitted"), st.just({"job_id": "7"})),
    st.tuples(st.just("started"), st.just({"host": "n1", "job_id": "7", "nodes": ["n1"]})),
    st.tuples(st.just("heartbeat"), st.integers(1, 9).map(lambda count: {"count": count})),
    st.tuples(st.just("problem"), st.text(max_size=5).map(lambda text: {"message": text})),
    st.tuples(st.just("ended"), st.integers(0, 2).map(lambda code: {
        "exit_code": code, "cause": "exit_code" if code else "completed", "interrupted": False})),
)  # fmt: skip


@st.composite
def other_facts(draw: st.DrawFn) -> list[Fact]:
    found = []
    for kind, data in draw(st.lists(TOLD, max_size=8)):
        writer, attempt = draw(st.sampled_from("ab")), Attempt(1, draw(st.integers(0, 1)))
        time = round(draw(st.floats(0, 1e10)), 3)
        found.append(Fact(kind, attempt, time, 0, data, writer))
    return found


BESIDE = st.one_of(
    st.builds(dict, file=st.sampled_from(["a.csv", "b"]), turn=st.integers(1, 3)).map(
        lambda data: ("followed", {**FOLLOWED, **data, "points": 0})
    ),
    st.floats(0, 100).map(lambda cpu: ("system", {"host": "n1", "cpus": 2, "cpu_percent": cpu})),
    st.text("abc", max_size=3).map(
        lambda text: ("artifact", {"file": IMAGE["v"], "content": text * 4})
    ),
)


@st.composite
def besides(draw: st.DrawFn) -> list[Fact]:
    """What stands in journals of metrics and of images, and is no metric."""
    told = draw(st.lists(BESIDE, max_size=4))
    return [Fact(kind, Attempt(1), 7.0, 0, data, "n") for kind, data in told]


TORN = st.sampled_from([b"", b"", b"", b"0123abcd {}\n", b"\n", b"torn", b"00000000 torn\n"])
BATCH = st.tuples(
    st.just("told"),
    other_facts(),
    st.tuples(metric_facts(), besides()).map(lambda told: told[0] + told[1]),
    TORN,
)
SUFFIXES = {
    "metric": METRICS_SUFFIX,
    "followed": METRICS_SUFFIX,
    "system": METRICS_SUFFIX,
    "artifact": ARTIFACTS_SUFFIX,
}
DEEDS = st.lists(
    BATCH
    | st.tuples(
        st.sampled_from(["sealed", "sealed", "journals removed", "damaged", "unsealed", "claimed"])
    ),
    max_size=12,
)


class Twin:
    """Two stores with one run. The second one is sealed now and then."""

    def __init__(self, root: Path) -> None:
        self.stores = [FileStore(root / name, "alice") for name in ("plain", "sealed")]
        self.paths = []
        for store in self.stores:
            store.prepare()
            self.paths.append(store.create(REQUEST, "#!/bin/sh\n"))
        self.number = 0
        self.epoch = 0

    def told(self, others: list[Fact], metrics: list[Fact], torn: bytes) -> None:
        """Appends the same to both; a writer that comes after a seal has a name of its own."""
        lines: dict[str, bytes] = {}
        for fact in [*others, *metrics]:
            self.number += 1
            name = fact.writer[0] + SUFFIXES.get(fact.kind, JOURNAL_SUFFIX)
            lines[name] = lines.get(name, b"") + encode(fact._replace(number=self.number))
        for name in lines:
            lines[name] += torn
        for paths in self.paths:
            Path(paths.record).mkdir(exist_ok=True)
            for name, data in lines.items():
                with Path(paths.record, f"{self.epoch}-{name}").open("ab") as file:
                    file.write(data)

    def sealed(self) -> None:
        self.epoch += 1
        seal(self.stores[1].stored(self.paths[1]))
        assert not Path(self.paths[1].record).exists()

    def sealed_again(self) -> None:
        """While something stands beside the sealed file that tells nothing new."""
        self.epoch += 1
        seal(self.stores[1].stored(self.paths[1]))

    def journals_removed(self) -> None:
        run = self.stores[1].stored(self.paths[1])
        try:
            remove_journals(run, before=1e12)
        except StoreError as error:
            assert "is damaged" in error.message
            assert run.retired(run.seals()[0]).exists()

    def unsealed(self) -> None:
        self.epoch += 1
        unseal(self.stores[1].stored(self.paths[1]))
        assert Path(self.paths[1].request).exists()
        assert recorded.cursors(self.paths[1].record) == recorded.cursors(self.paths[0].record)

    def damaged(self) -> None:
        """The newest sealed file, while its journals are kept."""
        run = self.stores[1].stored(self.paths[1])
        numbers = run.seals()
        if numbers and run.retired(numbers[0]).exists():
            path = run.sealed_path(numbers[0])
            os.truncate(path, path.stat().st_size - 1)

    def claimed(self) -> None:
        if Path(self.paths[1].request).exists():
            for store, paths in zip(self.stores, self.paths, strict=True):
                store.claim(paths, 1, "7")

    def compare(self) -> None:
        plain, sealed = (answers(s, p) for s, p in zip(self.stores, self.paths, strict=True))
        assert sealed[:-2] == plain[:-2]
        assert same(sealed[-2], plain[-2])
        assert same(sealed[-1], plain[-1])


def answers(store: FileStore, paths: RunPaths) -> tuple[Any, ...]:
    facts, bad = store.facts(paths, JournalKind.FACTS)
    metric_facts, bad_metrics = store.facts(paths, JournalKind.METRICS)
    return (
        store.read(RUN_ID),
        repr(store.metrics(paths)),
        repr((store.summary(paths).metrics, store.summary(paths).bad_lines)),
        sorted(set(map(repr, facts))),
        sorted(set(map(repr, store.facts(paths, JournalKind.ARTIFACTS)[0]))),
        (bad, bad_metrics),
        store.script(paths),
        (store.claimed(paths, 1), store.claimed(paths, 2)),
        metric_facts,
        [fact for fact in store.notes(paths) if fact.kind != "metric" or "y" in fact.data],
    )


@given(DEEDS)
def test_the_answer_does_not_depend_on_where_it_lies(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[Any]
) -> None:
    root = tmp_path_factory.mktemp("twin")
    twin = Twin(root)
    for deed, *what in deeds:
        getattr(twin, deed.replace(" ", "_"))(*what)
        twin.compare()
    twin.sealed()
    twin.compare()
    twin.sealed()
    twin.compare()
    shutil.rmtree(root)


HEARTBEAT = Fact("heartbeat", Attempt(1), 5.0, 1, {"count": 1}, "a")
POINT = Fact("metric", Attempt(1), 5.0, 1, {"m": "x", "v": 0.5}, "a")


@pytest.fixture
def twin(tmp_path: Path) -> Twin:
    twin = Twin(tmp_path)
    twin.told([HEARTBEAT] * 3, [POINT] * 3, b"")
    return twin


def test_a_run_whose_journals_are_gone_is_one_file(twin: Twin) -> None:
    twin.sealed()
    twin.journals_removed()
    twin.told([HEARTBEAT], [POINT], b"")
    twin.sealed()
    twin.journals_removed()
    twin.compare()
    store, paths = twin.stores[1], twin.paths[1]
    run = store.stored(paths)
    assert run.seals() == [1] and run.located() == str(run.sealed_path(1))
    assert os.listdir(paths.sealed) == [run.sealed_path(1).name]
    assert os.listdir(store.own.active) == []


def test_journals_are_kept_for_some_days(twin: Twin) -> None:
    twin.sealed()
    run = twin.stores[1].stored(twin.paths[1])
    sealed_at = run.sealed_path(0).stat().st_mtime
    assert remove_journals(run, before=sealed_at - 1) == 0
    assert run.retired(0).is_dir()
    assert remove_journals(run, before=sealed_at) == 1
    assert not run.retired(0).exists()


def test_a_fact_told_of_a_sealed_run_stands_beside_it(twin: Twin) -> None:
    twin.sealed()
    store, paths = twin.stores[1], twin.paths[1]
    store.append(paths, Attempt(1), "tags", {"set": {"b": "2"}})
    store.append(paths, Attempt(1), "metric", {"m": "x", "v": 1.5})
    assert store.read(RUN_ID).tags == {"a": "1", "b": "2"}
    assert store.metrics(paths)["x"].values == [0.5, 0.5, 0.5, 1.5]
    twin.sealed()
    assert store.read(RUN_ID).tags == {"a": "1", "b": "2"}
    assert store.metrics(paths)["x"].values == [0.5, 0.5, 0.5, 1.5]


def test_the_id_of_a_sealed_run_is_not_given_again(twin: Twin) -> None:
    twin.sealed()
    with pytest.raises(StoreError, match=f"there is a run {RUN_ID} already"):
        twin.stores[1].create(REQUEST, "")
    twin.compare()


def test_nothing_is_told_of_a_run_that_is_not_there(twin: Twin) -> None:
    store = twin.stores[1]
    paths = store.paths("gone_1700000000_0123abcd")
    with pytest.raises(StoreError, match="No such file"):
        store.append(paths, Attempt(1), "tags", {"set": {"b": "2"}})
    with pytest.raises(StoreError, match="there is no run gone_1700000000_0123abcd any more"):
        store.read(paths.run_id)
    assert not Path(paths.record).exists()


def test_what_a_writer_tells_that_was_not_done_is_given_back(twin: Twin) -> None:
    """Its journal was sealed and moved, and it goes on to write into it."""
    journals = [
        store.journal(paths, Attempt(1))
        for store, paths in zip(twin.stores, twin.paths, strict=True)
    ]
    # Writers have names of their own in each process; these two are to be the same one.
    journals[1].path = str(Path(twin.paths[1].record, Path(journals[0].path).name))
    for journal in journals:
        journal.write(encode(HEARTBEAT._replace(number=50)))
    twin.sealed()
    for journal in journals:
        journal.write(encode(HEARTBEAT._replace(number=51, data={"count": 9})))
        journal.close()
    assert twin.stores[1].read(RUN_ID).attempt.heartbeats == 1
    twin.journals_removed()
    twin.compare()
    assert twin.stores[1].read(RUN_ID).attempt.heartbeats == 9
    twin.sealed()
    twin.journals_removed()
    twin.compare()
    assert os.listdir(twin.stores[1].own.active) == []


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_journal_that_is_copied_a_second_time_changes_nothing(twin: Twin, part: int) -> None:
    """As when a node's spool is gathered once more: nothing, a beginning, all of it."""
    twin.sealed()
    plain, sealed = (Path(paths.record) for paths in twin.paths)
    sealed.mkdir()
    for path in plain.glob("*.jsonl"):
        lines = path.read_bytes().splitlines(keepends=True)
        (sealed / path.name).write_bytes(b"".join(lines[: part * len(lines) // 2]))
    twin.compare()
    twin.sealed_again()
    twin.compare()


def test_a_metric_file_is_followed_once_however_often_its_run_is_sealed(twin: Twin) -> None:
    """Whoever goes on with a sealed run unseals it: the journals tell what was read."""
    for turn in (1, 2):
        for store, paths in zip(twin.stores, twin.paths, strict=True):
            with Path(paths.outputs, "log.jsonl").open("a") as file:
                file.write("".join(f'{{"step": {n}, "loss": {n / turn}}}\n' for n in range(3)))
            journal = store.journal(paths, Attempt(turn), METRICS_SUFFIX)
            patterns = [Pattern.of({"pattern": "outputs/*.jsonl"})]
            follower = Follower(paths.files, paths.record, patterns, journal, pytest.fail)
            while follower.look(final=True):
                pass
            follower.sync()
            journal.close()
            assert follower.error is None
        before = recorded.cursors(twin.paths[1].record)
        for _ in range(2):
            twin.sealed()
            unseal(twin.stores[1].stored(twin.paths[1]))
            assert recorded.cursors(twin.paths[1].record) == before != {}
    told, expected = (
        [(point.data["s"], point.data["v"]) for point in store.facts(paths, JournalKind.METRICS)[0]
         if point.kind == "metric" and point.data["m"] == "loss"]
        for store, paths in reversed([*zip(twin.stores, twin.paths, strict=True)])
    )  # fmt: skip
    assert sorted(told) == sorted(expected) and len(told) == 6


def test_an_unsealed_run_goes_on_and_is_sealed_again(twin: Twin) -> None:
    twin.sealed()
    store, paths = twin.stores[1], twin.paths[1]
    before = store.read(RUN_ID)
    twin.unsealed()
    assert (store.read(RUN_ID), store.stored(paths).located()) == (before, paths.record)
    twin.unsealed()
    twin.told([HEARTBEAT._replace(data={"count": 9})], [POINT], b"")
    twin.compare()
    for last in (1, 1):
        twin.sealed()
        twin.compare()
        assert store.stored(paths).seals()[0] == last
    twin.unsealed()
    twin.sealed()
    twin.compare()


def test_a_line_that_was_torn_counts_once_while_a_run_is_unsealed(twin: Twin) -> None:
    """Killed before its last step, when all journals are written back but run.json is not."""
    twin.told([HEARTBEAT], [POINT], b"00000000 torn\n")
    twin.sealed()
    twin.unsealed()
    Path(twin.paths[1].request).unlink()
    twin.compare()
    twin.sealed_again()
    twin.compare()
    twin.unsealed()
    Path(twin.paths[1].request).unlink()
    twin.told([HEARTBEAT], [POINT], b"00000000 torn\n")
    twin.compare()
    twin.unsealed()
    twin.compare()


@pytest.mark.parametrize("moment", [1, 2])
def test_a_run_that_goes_on_while_it_is_sealed_keeps_its_journals(twin: Twin, moment: int) -> None:
    """Before its journals are out of the way, and just after."""
    store, paths = twin.stores[1], twin.paths[1]
    asked = 0

    def is_over() -> bool:
        nonlocal asked
        asked += 1
        if asked == moment:
            for one, where in zip(twin.stores, twin.paths, strict=True):
                one.append(where, Attempt(2), "submitting", {"token": "2"})
        return store.read(RUN_ID).attempt.attempt == Attempt(1)

    with pytest.raises(StoreError, match=f"run {RUN_ID} goes on again"):
        seal(store.stored(paths), is_over)
    assert asked == moment and Path(paths.request).exists()
    assert store.read(RUN_ID).attempt.attempt == Attempt(2)
    assert same(*(s.facts(p, JournalKind.METRICS)[0]
                  for s, p in zip(twin.stores, twin.paths, strict=True)))  # fmt: skip
    twin.sealed()


def test_a_sealing_that_was_cut_after_the_file_was_there(twin: Twin, tmp_path: Path) -> None:
    """The journals are whole, so they count; what they tell since then is sealed as well."""
    store, paths = twin.stores[1], twin.paths[1]
    kept = tmp_path / "kept"
    shutil.copytree(paths.record, kept)
    twin.sealed()
    shutil.rmtree(store.stored(paths).retired(0))
    shutil.copytree(kept, paths.record)
    twin.compare()
    assert store.stored(paths).located() == paths.record
    twin.sealed()
    assert store.stored(paths).seals() == [0]
    shutil.rmtree(store.stored(paths).retired(0))
    shutil.copytree(kept, paths.record)
    twin.told([HEARTBEAT], [POINT], b"")
    twin.compare()
    twin.sealed()
    assert store.stored(paths).seals() == [1, 0]
    twin.compare()


def test_what_led_to_an_end_is_read_with_it(tmp_path: Path) -> None:
    """The first journal takes long to read; meanwhile a rank falls, and the agent tells the end."""
    store = FileStore(tmp_path, "alice")
    store.prepare()
    store.create({**REQUEST, "format": 1}, "")
    folder = Path(store.own.run(RUN_ID).record)
    beats = [Fact("heartbeat", Attempt(1), 7.0, n, {"count": n}, "") for n in range(40_000)]
    (folder / "agent-1.0.jsonl").write_bytes(b"".join(map(encode, beats)))
    agent = Journal(str(folder / "agent-1.1.jsonl"), Attempt(1, 1))
    agent.append("started", {"host": "n1", "job_id": "7", "nodes": ["n1"]})
    with ThreadPoolExecutor(1, "reads") as pool:
        reading = in_its_midst(pool, store)
        rank = Journal(str(folder / "node-n1-1.1.jsonl"), Attempt(1, 1))
        rank.append("rank_ended", {"rank": 3, "status": 1, "time": 8.0, "host": "n1"})
        agent.append("ended", {"exit_code": 1, "signal": None, "cause": "exit_code"})
        record = reading.result()
    rank.close()
    agent.close()
    # Who came too late has seen nothing of it.
    assert record.verdict is None or record.verdict.rank == 3


def in_its_midst(pool: ThreadPoolExecutor, store: FileStore) -> Future[RunRecord]:
    """A run is read, and its first journal at this moment."""
    while True:
        reading = pool.submit(store.read, RUN_ID)
        (reader,) = (t.ident for t in threading.enumerate() if t.name.startswith("reads"))
        while not reading.done():
            if "decode_page" in names(sys._current_frames()[reader]):
                return reading


def names(frame: FrameType | None) -> list[str]:
    """Of what is called, and by whom."""
    return [] if frame is None else [frame.f_code.co_name, *names(frame.f_back)]
