"""The shared answer's file: what is kept, how long, and when it is not believed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

import hpcrun.scheduler.shared
from hpcrun.errors import SchedulerError
from hpcrun.ports import JobId, JobWord
from hpcrun.scheduler.shared import forget, shared_jobs, shared_lives
from hpcrun.scheduler.slurm import Slurm
from hpcrun.state import Cause, State
from hpcrun.workflow.refresh import unless_away

ALL = JobWord(
    State.FAILED,
    "NODE_FAIL 1:0",
    Cause.NODE_FAILURE,
    restart=2,
    reason="Priority",
    exit_code=1,
    signal=9,
    nodes=("n1", "n2"),
    starts=12.5,
    end=13.5,
    by="älice",
)


@dataclass
class Numbered:
    """A question whose answers are numbered: job 1, then job 2, …"""

    asked: int = 0
    pause: float = 0.0

    def __call__(self) -> Mapping[JobId, JobWord]:
        self.asked += 1
        number = self.asked
        time.sleep(self.pause)
        return {
            JobId(str(number)): ALL,
            JobId(f"{number}_3;north"): JobWord(State.QUEUED, "PENDING"),
        }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "jobs.json"


def test_an_answer_comes_back_whole(file: Path) -> None:
    ask = Numbered()
    first = shared_jobs(ask, file, 60)
    assert shared_jobs(ask, file, 60) == first == Numbered()()
    assert ask.asked == 1
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [path for path in os.listdir(file.parent) if path.startswith(".")] == []


def test_an_old_answer_is_asked_anew(file: Path) -> None:
    ask = Numbered()
    shared_jobs(ask, file, 60)
    time.sleep(0.05)
    assert JobId("2") in shared_jobs(ask, file, 0.01)
    assert JobId("3") in shared_jobs(ask, file, 0)
    assert JobId("3") in shared_jobs(ask, file, 60)


def test_a_question_that_began_after_the_call_serves_it(file: Path) -> None:
    """Even without pace: those who wait for the lock share what was asked meanwhile."""
    ask = Numbered(pause=0.5)
    seen: list[Mapping[JobId, JobWord]] = []
    at_once(lambda: seen.append(shared_jobs(ask, file, 0)))
    assert len(seen) == 5
    assert ask.asked <= 2


def at_once(act: Callable[[], object]) -> None:
    """Five do it at the same time."""
    together = threading.Barrier(5)

    def begin() -> None:
        together.wait()
        act()

    threads = [threading.Thread(target=begin) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_what_was_changed_is_asked_anew(file: Path) -> None:
    ask = Numbered()
    shared_jobs(ask, file, 60)
    forget(file)
    forget(file)
    assert JobId("2") in shared_jobs(ask, file, 60)


def test_what_is_known_of_a_job_is_shared_as_well(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hpcrun.scheduler.shared, "KEPT", 3)
    asked: list[JobId] = []

    def lives(job: str, is_enough: bool = True) -> Sequence[JobWord]:
        def ask() -> Sequence[JobWord]:
            asked.append(JobId(job))
            return [JobWord(State.FAILED, str(n)) for n in range(11)] + [ALL]

        return shared_lives(ask, file, JobId(job), 60, is_enough=lambda told: is_enough)

    assert lives("1") == lives("1") == lives("1")
    assert [word.raw for word in lives("1")[:11]] == [str(n) for n in range(11)]
    assert asked == ["1"]
    lives("2")
    lives("1", is_enough=False)
    lives("2")
    assert asked == ["1", "2", "1"]
    for job in ("3", "4", "5"):
        lives(job)
    assert list(json.loads(file.read_text())["lives"]) == ["3", "4", "5"]
    assert lives("2") and asked[-1] == "2"


def test_too_little_serves_who_asked_at_the_same_time(file: Path) -> None:
    asked: list[float] = []

    def ask() -> Sequence[JobWord]:
        asked.append(time.time())
        time.sleep(0.5)
        return []

    def lives() -> None:
        shared_lives(ask, file, JobId("1"), 60, is_enough=lambda told: False)

    at_once(lives)
    assert len(asked) <= 2


@dataclass
class Estimated:
    """A question whose answer is the same, but for the estimates, until it is told to be another.

    asked: how often it was asked.
    """

    reason: str = "Priority"
    asked: int = 0

    def __call__(self) -> Mapping[JobId, JobWord]:
        self.asked += 1
        word = JobWord(State.QUEUED, "PENDING", reason=self.reason, starts=float(self.asked))
        return {JobId("1"): word}


def test_it_is_asked_less_often_while_nothing_changes(file: Path) -> None:
    ask = Estimated()

    def counted(age: float, unchanged: float, relaxed: float = 180) -> int:
        """How many questions are asked where the answer has that age, and was new so long ago."""
        ask.asked = 0
        shared_jobs(ask, file, 0)
        told = json.loads(file.read_text())
        now = time.time()
        file.write_text(json.dumps({**told, "asked": now - age, "changed": now - unchanged - age}))
        shared_jobs(ask, file, 60, relaxed)
        return ask.asked - 1

    assert (counted(50, 0), counted(61, 0)) == (0, 1)
    assert (counted(90, 200), counted(101, 200)) == (0, 1)
    assert (counted(170, 10_000), counted(181, 10_000)) == (0, 1)
    assert counted(61, 10_000, relaxed=0) == 1
    changed = json.loads(file.read_text())["changed"]
    ask.reason = "Resources"
    shared_jobs(ask, file, 0)
    assert json.loads(file.read_text())["changed"] > changed


def test_a_failure_is_remembered(file: Path, tmp_path: Path) -> None:
    broken = Slurm(environ={"PATH": str(tmp_path)}).jobs
    with pytest.raises(SchedulerError) as first:
        shared_jobs(broken, file, 60)
    ask = Numbered()
    with pytest.raises(SchedulerError) as second:
        shared_jobs(ask, file, 60)
    assert ask.asked == 0
    for name in ("message", "hint", "transient"):
        assert getattr(first.value, name) == getattr(second.value, name)
    assert JobId("1") in shared_jobs(ask, file, 0)
    assert JobId("1") in shared_jobs(broken, file, 60)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        "[" * 100_000,
        '{"format": 1, "asked": NOW, "jobs": {}}',
        '{"format": 2, "asked": NOW, "jobs": {}}',
        '{"format": 2, "changed": NOW, "asked": "soon", "jobs": {}}',
        '{"format": 2, "changed": NOW, "asked": NOW}',
        '{"format": 2, "changed": NOW, "asked": NOW, "jobs": []}',
        '{"format": 2, "changed": NOW, "asked": NOW, "jobs": {"1": {"state": "Dreaming"}}}',
        '{"format": 2, "changed": NOW, "asked": NOW, "jobs": {"1": {"moon": "full"}}}',
        '{"format": 2, "changed": NOW, "asked": NOW, "error": {}}',
    ],
)
def test_a_damaged_file_is_no_answer(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text.replace("NOW", str(time.time())))
    file.chmod(0o600)
    ask = Numbered()
    assert JobId("1") in shared_jobs(ask, file, 60)
    assert JobId("1") in shared_jobs(ask, file, 60)


def empty_answer(file: Path, asked: float) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"format": 2, "asked": asked, "changed": asked, "jobs": {}}))
    file.chmod(0o600)


def test_an_answer_from_the_future_is_a_clock_set_back(file: Path) -> None:
    empty_answer(file, time.time() + 3600)
    ask = Numbered()
    assert JobId("1") in shared_jobs(ask, file, 60)
    assert JobId("1") in shared_jobs(ask, file, 60)


def test_a_file_that_others_may_write_is_no_answer(file: Path) -> None:
    empty_answer(file, time.time())
    file.chmod(0o622)
    assert JobId("1") in shared_jobs(Numbered(), file, 60)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_link_is_no_answer(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    empty_answer(other, time.time())
    file.parent.mkdir()
    file.symlink_to(other)
    assert JobId("1") in shared_jobs(Numbered(), file, 60)
    assert not file.is_symlink()
    assert json.loads(other.read_text())["jobs"] == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_no_answer(file: Path) -> None:
    empty_answer(file, time.time())
    os.chown(file, 65534, 65534)
    assert JobId("1") in shared_jobs(Numbered(), file, 60)
    assert file.stat().st_uid == os.geteuid()


def test_a_folder_that_cannot_be_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    ask = Numbered()
    for number in ("1", "2"):
        assert JobId(number) in shared_jobs(ask, tmp_path / "cache" / "jobs.json", 60)


def test_a_folder_in_the_place_of_the_file_is_done_without(file: Path) -> None:
    file.mkdir(parents=True)
    ask = Numbered()
    for number in ("1", "2"):
        assert JobId(number) in shared_jobs(ask, file, 60)


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(hpcrun.scheduler.shared, "LOCK_TIMEOUT", 0.2)
    yield


@pytest.mark.usefixtures("short_wait")
def test_a_holder_that_hangs_is_not_waited_for_long(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    held = FileLock(f"{file}.lock", fallback_to_soft=False)
    with held:
        assert JobId("1") in shared_jobs(Numbered(), file, 60)
    assert json.loads(file.read_text())["jobs"]
    assert "waiting for Slurm: another process of yours asks it" in caplog.text


def test_who_is_away_is_asked_once_for_all_runs_but_of_local_jobs_each_host_knows_its_own() -> None:
    asked: list[str] = []

    def lives(target: str, job_id: JobId, is_enough: object) -> Sequence[JobWord]:
        asked.append(f"{target} {job_id}")
        raise SchedulerError("away", transient=True)

    ask = unless_away(lives)
    for target in ("lab/gpu", "lab/cpu", "local"):
        for job in ("1", "2"):
            with pytest.raises(SchedulerError):
                ask(target, JobId(job), lambda told: True)
    assert asked == ["lab/gpu 1", "local 1", "local 2"]
