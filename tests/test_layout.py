"""Where things lie, and the months that run ids name."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.layout import (
    Attempt,
    JournalKind,
    UserPaths,
    experiment_of,
    journal_kind,
    month_of,
    month_of_seconds,
)


@given(st.integers(0, 10**11 - 1))
def test_the_month_is_that_of_the_calendar_in_utc(seconds: int) -> None:
    assert (
        month_of_seconds(seconds) == datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m")
        if seconds < 253402300800
        else True
    )


def test_an_experiment_may_hold_underscores() -> None:
    assert experiment_of("my_long_name_1700000000_0123abcd") == "my_long_name"
    assert month_of("my_long_name_1700000000_0123abcd") == "2023-11"


@pytest.mark.parametrize(
    "name", ["x", "x_1_0123abcd", "x_1700000000_0123abcD", "x_1700000000_0123"]
)
def test_what_is_no_run_id_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a run id"):
        month_of(name)


def test_an_attempt_is_ordered_by_submission_then_restart() -> None:
    texts = ["1.0", "1.1", "1.10", "2.0"]
    attempts = [Attempt.parse(text) for text in texts]
    assert attempts == sorted(attempts) and [str(a) for a in attempts] == texts


def test_journals_are_told_from_other_files() -> None:
    assert journal_kind("agent-1.0.jsonl") == ("agent-1.0", JournalKind.FACTS)
    assert journal_kind("rank-0-1.0-n1-7.metrics.jsonl") == ("rank-0-1.0-n1-7", JournalKind.METRICS)
    assert journal_kind("rank-0-1.0-n1-7.artifacts.jsonl") == (
        "rank-0-1.0-n1-7",
        JournalKind.ARTIFACTS,
    )
    for other in ("run.json", "script.sh", ".agent.jsonl", "claim-1"):
        assert journal_kind(other) is None


def test_a_runs_folders() -> None:
    paths = UserPaths.of("/w", "alice").run("d_1700000000_0123abcd")
    assert paths.record == "/w/users/alice/active/d_1700000000_0123abcd"
    assert paths.outputs == "/w/users/alice/files/2023-11/d_1700000000_0123abcd/outputs"
    assert paths.rank_log(Attempt(1, 2), 3).endswith("/user_logs/1.2/rank-3.log")
