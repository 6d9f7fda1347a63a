"""A job that nobody remembers: what counts of it is decided by what this reader saw before."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpcrun.fold import fold
from hpcrun.layout import Attempt
from hpcrun.ports import JobWord
from hpcrun.record import Fact, RunRecord
from hpcrun.state import Cause, State
from hpcrun.workflow.forgotten import FORGOTTEN, if_all, is_known, of_unknown
from hpcrun.workflow.liveness import Heartbeats

REQUEST = {
    "run_id": "digits_1700000000_0123abcd",
    "experiment": "digits",
    "user": "alice",
    "target": "cluster/gpu",
    "created": 100.0,
}

DONE = JobWord(State.COMPLETED, "COMPLETED", Cause.COMPLETED, restart=0)
RUNNING = JobWord(State.NOT_RESPONDING, "sacct says RUNNING", restart=1)


@pytest.fixture
def record() -> RunRecord:
    """Of a job that was requeued once."""
    attempts = (Attempt(1, 0), Attempt(1, 1))
    return fold(REQUEST, [Fact("started", a, 200.0, 1, {}, f"agent-{a}") for a in attempts])


def test_lives_that_are_fewer_than_the_record_knows_count_for_nothing(record: RunRecord) -> None:
    both = [replace(DONE, cause=Cause.PREEMPTED), replace(DONE, restart=1)]
    assert if_all([DONE], record) == () and not is_known([DONE], record)
    assert if_all(both, record) == both and is_known(both, record)
    assert not is_known([], record) and not is_known([DONE, RUNNING], record)


@pytest.mark.parametrize("word", [None, RUNNING])
def test_it_is_lost_once_it_has_been_unknown_for_long(
    record: RunRecord, word: JobWord | None, tmp_path: Path
) -> None:
    seen = tmp_path / "heartbeats.json"
    for _ in range(2):
        heartbeats = Heartbeats(seen)
        told = of_unknown(record, word, heartbeats)
        assert told is not None and (told.state, told.cause) == (State.NOT_RESPONDING, None)
        heartbeats.save()
    ((key, _),) = json.loads(seen.read_text()).items()
    seen.write_text(json.dumps({key: [0, time.time() - FORGOTTEN - 1]}))
    told = of_unknown(record, word, Heartbeats(seen))
    assert told is not None and (told.state, told.cause) == (State.FAILED, Cause.LOST)
    new = fold({**REQUEST, "created": time.time()}, [])
    assert of_unknown(new, word, Heartbeats(seen)) is None
