"""Following metric files: each point once, whatever happens to follower, file and disk."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboardX import SummaryWriter

from hpcrun.agent.follow import follower as following
from hpcrun.agent.follow.follower import Follower
from hpcrun.agent.follow.opened import Opened, look_back
from hpcrun.agent.follow.patterns import Pattern
from hpcrun.errors import HpcrunError
from hpcrun.journal import Journal
from hpcrun.layout import Attempt
from hpcrun.metrics import azure_shape, metrics_of
from hpcrun.record import Fact, decode_page
from tests.agent_job import small_disk
from tests.ordinary_user import as_ordinary_user

FIRST, SECOND, THIRD = Attempt(1, 0), Attempt(1, 1), Attempt(2, 0)


@dataclass
class Run:
    """A run's folders, and who follows its files at the moment."""

    root: Path
    patterns: Sequence[Pattern]
    attempt: Attempt = FIRST
    told: list[str] = field(default_factory=list)
    follower: Follower | None = None

    def __post_init__(self) -> None:
        (self.files / "logs").mkdir(parents=True, exist_ok=True)
        (self.files / "outputs").mkdir(exist_ok=True)
        self.record.mkdir(exist_ok=True)
        self.begin(FIRST)

    @property
    def record(self) -> Path:
        return self.root / "record"

    @property
    def files(self) -> Path:
        return self.root / "files"

    @property
    def journal(self) -> Path:
        return self.record / f"node-a-{self.attempt}.metrics.jsonl"

    def begin(self, attempt: Attempt) -> None:
        """What the agent of an attempt does before the command begins."""
        self.attempt = attempt
        told = [pattern._asdict() for pattern in self.patterns]
        agent = Journal(str(self.record / f"agent-{attempt}.jsonl"), attempt)
        agent.append("started", {})
        if attempt != FIRST:
            agent.append("metric_files", {"marks": look_back(str(self.files), told)})
        agent.close()
        self.die()

    def die(self) -> None:
        """The follower is killed; the next one begins."""
        journal = Journal(str(self.journal), self.attempt)
        self.follower = Follower(
            str(self.files), str(self.record), self.patterns, journal, self.told.append
        )

    def look(self, final: bool = False) -> int:
        assert self.follower is not None
        count = self.follower.look(final)
        self.follower.sync()
        return count

    def finish(self) -> None:
        while self.look(final=True):
            pass

    def put(self, name: str, text: str) -> Path:
        path = self.files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def add(self, name: str, text: str) -> None:
        with (self.files / name).open("a") as file:
            file.write(text)

    def facts(self, kind: str = "metric") -> list[Fact]:
        found = []
        for path in sorted(self.record.glob("*.metrics.jsonl")):
            found += decode_page(path.read_bytes(), path.name).facts
        return [fact for fact in found if fact.kind == kind]

    def points(self) -> list[tuple[str, Any, int | None]]:
        return [(f.data["m"], f.data["v"], f.data.get("s")) for f in self.facts()]

    def metrics(self) -> dict[str, Any]:
        return {name: azure_shape(m) for name, m in metrics_of(self.facts()).items()}


def jsonl(number: int, **more: Any) -> str:
    return json.dumps({"step": number, "a": number, **more}) + "\n"


def run(root: Path, *patterns: str | Pattern) -> Run:
    return Run(root, [Pattern(p) if isinstance(p, str) else p for p in patterns])


# -- one file that grows --------------------------------------------------------------------------

Steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 40)),
        st.tuples(st.just("torn"), st.integers(1, 9)),
        st.tuples(st.sampled_from(["look", "die", "requeue"]), st.just(0)),
        st.tuples(st.just("die inside"), st.integers(0, 5000)),
    ),
    max_size=30,
)


@given(steps=Steps, block=st.sampled_from([70, 200, 1 << 20]))
@settings(max_examples=200)
def test_each_line_is_one_point_of_the_attempt_that_wrote_it(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], block: int
) -> None:
    root = tmp_path_factory.mktemp("follow")
    here = run(root, "logs/*.jsonl")
    file = here.put("logs/m.jsonl", "")
    expected: list[tuple[Attempt, int]] = []
    waiting = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "BLOCK", block)
        for step, count in steps:
            before = here.journal.stat().st_size if here.journal.exists() else 0
            if step == "write":
                for _ in range(count):
                    here.add("logs/m.jsonl", waiting or jsonl(len(expected)))
                    expected.append((here.attempt, len(expected)))
                    waiting = ""
            elif step == "torn" and not waiting:
                line = jsonl(len(expected))
                here.add("logs/m.jsonl", line[:count])
                waiting = line[count:]
            elif step == "look":
                here.look()
            elif step == "die":
                here.die()
            elif step == "requeue":
                here.begin(here.attempt._replace(restart=here.attempt.restart + 1))
            elif step == "die inside":
                # Of what was being written, any part may have arrived.
                here.look()
                size = here.journal.stat().st_size if here.journal.exists() else 0
                if size > before:
                    os.truncate(here.journal, before + count % (size - before))
                here.die()
        here.finish()
    assert sorted((f.attempt, f.data["v"]) for f in here.facts()) == expected
    assert [f.data["s"] for f in here.facts()] == [f.data["v"] for f in here.facts()]
    assert here.told == []
    assert file.exists()


def test_a_last_point_without_its_newline_is_there_once(tmp_path: Path) -> None:
    """Whoever ends the line makes it whole; nobody ends those of an earlier attempt's journal."""
    here = run(tmp_path, "logs/*.jsonl")
    here.put("logs/m.jsonl", "".join(jsonl(number) for number in range(3)))
    here.look()
    os.truncate(here.journal, here.journal.stat().st_size - 1)
    here.die()
    here.finish()
    assert [value for _, value, _ in here.points()] == [0, 1, 2]
    os.truncate(here.journal, here.journal.stat().st_size - 1)
    here.begin(SECOND)
    here.finish()
    assert [value for _, value, _ in here.points()] == [0, 1, 2]


def test_a_quiet_file_is_not_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = run(tmp_path, "logs/*.jsonl")
    here.put("logs/m.jsonl", jsonl(0))
    assert here.look() > 0
    here.look()
    opened: list[str] = []
    monkeypatch.setattr(following, "Opened", lambda root, path: opened.append(path))
    assert here.look() == 0
    assert opened == []


def test_event_files_of_several_writers_in_several_folders(tmp_path: Path) -> None:
    here = run(tmp_path, "logs/**/events.out.tfevents.*")
    folders = ("", "train", "val")
    writers = [SummaryWriter(str(here.files / "logs" / folder)) for folder in folders]
    second = SummaryWriter(str(here.files / "logs/train"), filename_suffix=".second")
    for step in range(50):
        for number, writer in enumerate(writers):
            writer.add_scalar("loss", number, step)
            writer.flush()
        if step % 10 == 0:
            second.add_scalar("accuracy", step, step)
            second.add_histogram("weights", [1.0, 2.0], step)
            here.look()
    for writer in (*writers, second):
        writer.close()
    here.finish()
    assert here.metrics() == {
        "loss": [0.0] * 50,
        "train/accuracy": [0.0, 10.0, 20.0, 30.0, 40.0],
        "train/loss": [1.0] * 50,
        "val/loss": [2.0] * 50,
    }
    skipped: Counter[str] = Counter()
    for fact in here.facts("followed"):
        skipped.update(fact.data.get("skipped", {}))
    assert skipped == {"histogram": 5}


def test_a_record_that_is_larger_than_a_piece(tmp_path: Path) -> None:
    here = run(tmp_path, "logs/*")
    name = "logs/m.jsonl"
    here.put(name, jsonl(0) + jsonl(1, text="x" * (3 << 20)) + jsonl(2))
    here.finish()
    assert [value for _, value, _ in here.points()] == [0, 1, 2]
    here.add(name, jsonl(3, text="x" * (17 << 20)) + jsonl(4))
    here.finish()
    assert [value for _, value, _ in here.points()] == [0, 1, 2]
    assert here.told == [
        f"{name} cannot be read behind byte {here.facts('followed')[-1].data['to']}:"
        " a record is longer than 16777216 bytes"
    ]


def test_a_damaged_event_file_is_told_at_the_end(tmp_path: Path) -> None:
    here = run(tmp_path, "logs/*tfevents*")
    writer = SummaryWriter(str(here.files / "logs"))
    for step in range(5):
        writer.add_scalar("loss", step, step)
    writer.close()
    (file,) = (here.files / "logs").iterdir()
    data = file.read_bytes()
    file.write_bytes(data[:-6] + b"\0" + data[-5:])
    here.look()
    assert here.told == []
    here.finish()
    here.finish()
    (sentence,) = here.told
    assert "a record is damaged" in sentence and file.name in sentence
    assert here.metrics() == {"loss": [0.0, 1.0, 2.0, 3.0]}


# -- files that are written anew ------------------------------------------------------------------


def test_a_table_that_is_written_as_a_whole_each_time(tmp_path: Path) -> None:
    """As pandas does: without a step, with values that repeat, and seen while it is short."""
    here = run(tmp_path, "outputs/m.csv")
    rows = ["lr,loss"]
    for number in range(30):
        rows.append(f"0.1,{number // 2}")
        for seen in (len(rows) // 2, len(rows)):
            here.put("outputs/m.csv", "\n".join(rows[:seen]) + "\n")
            if number % 3 == 0:
                here.look()
        if number == 15:
            here.die()
    here.finish()
    assert here.metrics() == {"loss": [n // 2 for n in range(30)], "lr": [0.1] * 30}


def test_lightnings_table_that_is_given_a_column(tmp_path: Path) -> None:
    """Its CSVLogger sorts the columns, and writes all rows anew under the new header."""
    here = run(tmp_path, "logs/lightning_logs/*/metrics.csv")
    path = here.files / "logs/lightning_logs/version_0/metrics.csv"
    path.parent.mkdir(parents=True)
    rows: list[dict[str, float]] = []

    def save(header: Sequence[str]) -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, header)
            writer.writeheader()
            writer.writerows(rows)

    for step in range(10):
        rows.append({"epoch": 0, "step": step, "train_loss": 1 / (step + 1)})
        save(["epoch", "step", "train_loss"])
        here.look()
    rows.append({"epoch": 0, "step": 9, "accuracy": 0.5})
    save(["accuracy", "epoch", "step", "train_loss"])
    here.look()
    here.die()
    rows.append({"epoch": 1, "step": 10, "train_loss": 0.05})
    save(["accuracy", "epoch", "step", "train_loss"])
    here.finish()
    assert here.metrics() == {
        "version_0/accuracy": 0.5,
        "version_0/epoch": [0] * 11 + [1],
        "version_0/train_loss": [1 / (step + 1) for step in range(10)] + [0.05],
    }


def test_the_checkpoints_of_a_trainer_tell_each_point_once(tmp_path: Path) -> None:
    here = run(tmp_path, "outputs/**/trainer_state.json")
    history = []
    for number in range(1, 7):
        history += [
            {"step": 10 * number, "loss": 1 / number},
            {"step": 10 * number, "eval_loss": 2.0},
        ]
        state = json.dumps({"global_step": 10 * number, "log_history": history})
        here.put(f"outputs/checkpoint-{10 * number}/trainer_state.json", state)
        shutil.rmtree(here.files / f"outputs/checkpoint-{10 * number - 20}", ignore_errors=True)
        here.look()
        if number == 3:
            here.die()
        if number == 4:
            here.begin(SECOND)
    here.put("outputs/trainer_state.json", json.dumps({"log_history": history}))
    here.finish()
    assert here.metrics() == {"loss": [1 / n for n in range(1, 7)], "eval_loss": [2.0] * 6}
    assert len(here.points()) == 12
    attempts = [f.attempt for f in here.facts() if f.data["m"] == "loss"]
    assert attempts == [FIRST] * 4 + [SECOND] * 2


def test_a_file_that_a_requeue_begins_anew(tmp_path: Path) -> None:
    here = run(tmp_path, "logs/m.jsonl")
    here.put("logs/m.jsonl", "".join(jsonl(n, b=1) for n in range(100)))
    here.look()
    here.begin(SECOND)
    here.put("logs/m.jsonl", "".join(jsonl(n, b=2) for n in range(30)))
    here.look()
    here.die()
    here.add("logs/m.jsonl", "".join(jsonl(n, b=2) for n in range(30, 120)))
    here.finish()
    assert here.metrics() == {"a": list(range(120)), "b": [2] * 120}
    counted = Counter((f.attempt, f.data["m"]) for f in here.facts())
    assert counted == {(FIRST, "a"): 100, (FIRST, "b"): 100, (SECOND, "a"): 20, (SECOND, "b"): 120}


def test_what_a_killed_attempt_left_unread_is_its_own(tmp_path: Path) -> None:
    here = run(tmp_path, "logs/m.jsonl")
    here.put("logs/m.jsonl", "".join(jsonl(n) for n in range(10)))
    here.look()
    here.add("logs/m.jsonl", "".join(jsonl(n) for n in range(10, 20)) + '{"step": 2')
    here.begin(SECOND)
    here.add("logs/m.jsonl", "\n" + "".join(jsonl(n) for n in range(15, 25)))
    here.begin(THIRD)
    here.add("logs/m.jsonl", jsonl(25))
    here.finish()
    told = [(f.attempt, f.data["s"]) for f in here.facts()]
    assert told == [
        *((FIRST, n) for n in range(20)),
        *((SECOND, n) for n in range(15, 25)),
        (THIRD, 25),
    ]
    assert here.metrics() == {"a": list(range(26))}


def test_a_rotated_file_goes_on_under_its_new_name(tmp_path: Path) -> None:
    here = run(tmp_path, Pattern("logs/m.jsonl*", "jsonl", "", ""))
    first = here.put("logs/m.jsonl", "".join(jsonl(n) for n in range(10)))
    here.look()
    here.add("logs/m.jsonl", jsonl(10))
    first.rename(here.files / "logs/m.jsonl.1")
    here.put("logs/m.jsonl", jsonl(11))
    here.look()
    here.die()
    here.add("logs/m.jsonl.1", jsonl(100))
    here.add("logs/m.jsonl", jsonl(12))
    here.finish()
    assert sorted(step or 0 for _, _, step in here.points()) == [*range(13), 100]


# -- what is followed -----------------------------------------------------------------------------


def test_only_regular_files_of_the_run_are_followed(tmp_path: Path) -> None:
    here = run(tmp_path, "logs/**/*.jsonl", "outputs/*.jsonl")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "m.jsonl").write_text(jsonl(0, outside=1))
    logs = here.files / "logs"
    (logs / "link.jsonl").symlink_to(outside / "m.jsonl")
    (logs / "folder").symlink_to(outside)
    os.mkfifo(logs / "pipe.jsonl")
    (logs / "folder.jsonl").mkdir()
    (here.files / "outputs").rmdir()
    (here.files / "outputs").symlink_to(outside)
    here.put("logs/.hidden.jsonl", jsonl(0, hidden=1))
    here.put("logs/.cache/m.jsonl", jsonl(0, cached=1))
    here.put("logs/deep/er/m.jsonl", jsonl(0))
    here.finish()
    assert here.points() == [("deep/er/a", 0, 0)]
    assert here.told == []


def test_what_takes_a_files_place_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to("secret")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="symbolic links"):
        Opened(str(tmp_path), "link")
    with Opened(str(tmp_path), "pipe") as opened:
        assert not opened.is_file


def test_more_files_than_are_followed_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run(tmp_path, "logs/*.jsonl")
    monkeypatch.setattr(following, "LIMIT", 3)
    for number in range(5):
        here.put(f"logs/{number}.jsonl", jsonl(number))
    here.finish()
    here.finish()
    assert [value for _, value, _ in here.points()] == [0, 1, 2]
    assert here.told == ["5 metric files match, and 3 are followed"]


def test_a_file_that_cannot_be_read_is_told_once_and_the_others_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run(tmp_path, "logs/*.jsonl")
    here.put("logs/a.jsonl", jsonl(0)).chmod(0)
    here.put("logs/b.jsonl", jsonl(1))
    for folder in (tmp_path, here.record, here.files, here.files / "logs", *here.record.iterdir()):
        folder.chmod(0o777)

    monkeypatch.chdir(tmp_path)  # its parents are root's alone

    def follow() -> None:
        near = Run(Path(), here.patterns)
        near.finish()
        near.finish()
        raise HpcrunError(" ".join(near.told))

    assert as_ordinary_user(follow).endswith("cannot read logs/a.jsonl: Permission denied")
    assert [value for _, value, _ in here.points()] == [1]


def test_a_newer_attempt_ends_what_an_older_one_follows(tmp_path: Path) -> None:
    here = run(tmp_path, "logs/m.jsonl")
    here.put("logs/m.jsonl", jsonl(0))
    here.look()
    old = here.follower
    here.begin(SECOND)
    here.add("logs/m.jsonl", jsonl(1))
    assert old is not None and old.look(final=True) == 0
    here.finish()
    assert [(f.attempt, f.data["v"]) for f in here.facts()] == [(FIRST, 0), (SECOND, 1)]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("dies", [False, True])
def test_a_full_disk_costs_no_point_and_doubles_none(tmp_path: Path, dies: bool) -> None:
    with small_disk(tmp_path / "record", "64k"):
        here = run(tmp_path, "logs/m.jsonl")
        here.put("logs/m.jsonl", "".join(jsonl(n) for n in range(3000)))
        for _ in range(2):
            here.look()
            assert here.follower is not None and here.follower.error is not None
        if dies:
            here.die()
        there = [value for _, value, _ in here.points()]
        assert 0 < len(there) < 3000
        words = ["mount", "-o", "remount,size=8m", str(tmp_path / "record")]
        subprocess.run(words, check=True)
        here.finish()
        assert [value for _, value, _ in here.points()] == list(range(3000))
