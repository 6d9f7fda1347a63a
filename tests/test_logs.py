"""Following a run's log from attempt to attempt: nothing is left out, and nothing shown twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcrun.fold import fold
from hpcrun.layout import Attempt, RunPaths
from hpcrun.record import Fact, RunRecord
from hpcrun.workflow.logs import Follower, Source, batch_source, log_source

REQUEST = {
    "run_id": "line_1700000000_0123abcd",
    "experiment": "line",
    "user": "alice",
    "target": "lab/gpu",
    "created": 1.7e9,
}


def record(*attempts: Attempt) -> RunRecord:
    """A run whose attempts have begun."""
    return fold(REQUEST, [Fact("started", a, 1.0, 0, {}, f"agent-{a}") for a in attempts])


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(str(tmp_path / "record"), str(tmp_path / "files"))


def add(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a") as file:
        file.write(text)


def read(follower: Follower, now: RunRecord) -> str:
    return b"".join(chunk for _, chunk in follower.read(now)).decode()


FIRST, SECOND, THIRD, AGAIN = Attempt(1), Attempt(1, 1), Attempt(1, 2), Attempt(2)


def test_what_an_attempt_wrote_last_comes_before_the_next_one(paths: RunPaths) -> None:
    follower = Follower(lambda attempt, ended: log_source(paths, attempt, 0))
    add(paths.rank_log(FIRST, 0), "a")
    assert read(follower, record(FIRST)) == "a"
    add(paths.rank_log(FIRST, 0), "b")
    assert read(follower, record(FIRST, SECOND)) == "b"
    for attempt, text in ((SECOND, "c"), (THIRD, "d"), (AGAIN, "e")):
        add(paths.rank_log(attempt, 0), text)
    assert read(follower, record(FIRST, SECOND, THIRD, AGAIN)) == "cde"
    assert read(follower, record(FIRST, SECOND, THIRD, AGAIN)) == ""


def test_who_begins_late_begins_with_the_newest(paths: RunPaths) -> None:
    for attempt, text in ((FIRST, "a"), (SECOND, "bc")):
        add(paths.rank_log(attempt, 0), text)
    follower = Follower(lambda attempt, ended: log_source(paths, attempt, 0), offset=1)
    assert read(follower, record(FIRST, SECOND)) == "c"
    add(paths.rank_log(THIRD, 0), "d")
    assert read(follower, record(FIRST, SECOND, THIRD)) == "d"


def test_who_was_cut_off_goes_on_with_the_same_attempt(paths: RunPaths) -> None:
    for attempt, text in ((FIRST, "ab"), (SECOND, "c"), (THIRD, "d")):
        add(paths.rank_log(attempt, 0), text)
    follower = Follower(lambda attempt, ended: log_source(paths, attempt, 0), FIRST, 1)
    assert read(follower, record(FIRST)) == "b"
    assert (follower.shown, follower.offset) == (FIRST, 2)
    again = Follower(lambda attempt, ended: log_source(paths, attempt, 0), FIRST, 2)
    assert read(again, record(FIRST, SECOND, THIRD)) == "cd"
    assert (again.shown, again.offset) == (THIRD, 1)


def test_the_requeues_of_a_job_have_one_batch_log(paths: RunPaths) -> None:
    def find(attempt: Attempt, ended: bool) -> Source | None:
        return batch_source(paths, attempt)

    follower = Follower(find)
    add(paths.batch_log(1), "a")
    assert read(follower, record(FIRST)) == "a"
    add(paths.batch_log(1), "b")
    assert read(follower, record(FIRST, SECOND)) == "b"
    add(paths.batch_log(2), "c")
    assert read(follower, record(FIRST, SECOND, AGAIN)) == "c"
