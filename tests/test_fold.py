"""The join of facts: any order, repeats, and the trust between those who tell an end."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.fold import fold
from hpcrun.kinds import KINDS
from hpcrun.layout import Attempt
from hpcrun.record import Fact, RunRecord, decode, decode_page, encode
from hpcrun.state import Cause, State

REQUEST = {
    "run_id": "digits_1700000000_0123abcd",
    "experiment": "digits",
    "user": "alice",
    "target": "local",
    "created": 1.0,
}
FIRST = Attempt(1, 0)


def fact(kind: str, attempt: Attempt = FIRST, writer: str = "agent", **data: object) -> Fact:
    return Fact(kind, attempt, 10.0, list(KINDS).index(kind) + 1, data, writer)


WHOLE_LIFE = [
    fact("submitting", writer="client", token="t"),
    fact("submitted", writer="client", job_id="7"),
    fact("started", host="n1", job_id="7", nodes=["n1", "n2"]),
    fact("running", command=["train"]),
    fact("heartbeat", count=3),
    fact("rank_ended", writer="node-n1", rank=0, status=0, host="n1", time=11.0),
    fact("finalizing"),
    fact("ended", exit_code=0, signal=None, cause="completed"),
]


def test_every_order_of_a_life_gives_one_record() -> None:
    expected = fold(REQUEST, WHOLE_LIFE)
    assert expected.state is State.COMPLETED
    assert expected.job_id == "7"
    for order in itertools.permutations(WHOLE_LIFE):
        assert fold(REQUEST, order) == expected


@given(st.lists(st.sampled_from(WHOLE_LIFE), max_size=20))
def test_repeats_change_nothing(facts: list[Fact]) -> None:
    once = list(dict.fromkeys((f.kind, f.writer, f.number) for f in facts))
    chosen = [next(f for f in facts if (f.kind, f.writer, f.number) == key) for key in once]
    assert fold(REQUEST, facts) == fold(REQUEST, chosen)


def test_each_fact_only_raises_the_state() -> None:
    ranks = [fold(REQUEST, WHOLE_LIFE[:count]).state.rank for count in range(len(WHOLE_LIFE) + 1)]
    assert ranks == sorted(ranks)


def scheduler(**word: object) -> Fact:
    return fact("scheduler", writer="client-x", **word)


def verdict(*facts: Fact) -> tuple[State, Cause, str]:
    record = fold(REQUEST, facts)
    assert record.verdict is not None
    return record.state, record.verdict.cause, record.verdict.sentence


def test_the_agents_exit_counts_over_the_schedulers_word() -> None:
    state, cause, _ = verdict(
        fact("ended", exit_code=0, cause="completed"),
        scheduler(state="Failed", cause="lost", raw="the job is unknown to the scheduler"),
    )
    assert (state, cause) == (State.COMPLETED, Cause.COMPLETED)


def test_lost_yields_to_a_late_end() -> None:
    lost = scheduler(state="Failed", cause="lost", raw="the job is unknown to the scheduler")
    assert verdict(fact("started", host="n1"), lost)[1] is Cause.LOST
    ended = fact("ended", exit_code=3, cause="exit_code")
    assert verdict(fact("started", host="n1"), lost, ended)[1] is Cause.EXIT_CODE


@pytest.mark.parametrize(
    ("word", "cause", "state"),
    [
        (
            {"state": "Failed", "cause": "time_limit", "raw": "TIMEOUT"},
            Cause.TIME_LIMIT,
            State.FAILED,
        ),
        (
            {"state": "Canceled", "cause": "canceled", "raw": "CANCELLED by 1000", "by": "bob"},
            Cause.CANCELED,
            State.CANCELED,
        ),
        (
            {"state": "Failed", "cause": "node_failure", "raw": "NODE_FAIL"},
            Cause.NODE_FAILURE,
            State.FAILED,
        ),
    ],
)
def test_the_scheduler_says_why_the_agent_was_told_to_stop(
    word: dict[str, str], cause: Cause, state: State
) -> None:
    stopped = [
        fact("started", host="n1"),
        fact("signal", signal=15, name="SIGTERM"),
        fact("ended", exit_code=None, signal=15, cause="signal", interrupted=True),
    ]
    before = fold(REQUEST, stopped)
    assert before.attempt.awaits_scheduler
    assert before.state is State.FAILED and before.verdict is not None
    assert before.verdict.cause is Cause.UNKNOWN
    after = fold(REQUEST, [*stopped, scheduler(**word)])
    assert not after.attempt.awaits_scheduler
    assert (after.state, after.verdict and after.verdict.cause) == (state, cause)


def test_who_canceled_is_our_fact_then_the_schedulers_word_then_unknown() -> None:
    word = {"state": "Canceled", "cause": "canceled", "raw": "CANCELLED"}
    asked = fact("cancel_requested", writer="client", by="alice")
    assert verdict(scheduler(**word, by="bob"), asked)[2].endswith("by alice")
    assert verdict(scheduler(**word, by="bob"))[2].endswith("by bob")
    assert verdict(scheduler(**word))[2].endswith("by an unknown user")


def test_a_request_to_cancel_ranks_below_every_end() -> None:
    asked = fact("cancel_requested", writer="client", by="alice")
    assert fold(REQUEST, [*WHOLE_LIFE[:4], asked]).state is State.CANCEL_REQUESTED
    assert fold(REQUEST, [*WHOLE_LIFE, asked]).state is State.COMPLETED


def test_a_memory_kill_is_the_cause_when_the_command_failed_and_a_note_when_it_did_not() -> None:
    killed = fact("out_of_memory", writer="node-n1", evidence="oom-kill in step 0", host="n1")
    fell = fact("rank_ended", writer="node-n1", rank=2, status=137, host="n1", time=5.0)
    failed = fact("ended", exit_code=137, cause="exit_code")
    assert verdict(killed, fell, failed)[1] is Cause.OUT_OF_MEMORY
    state, cause, sentence = verdict(killed, fact("ended", exit_code=0, cause="completed"))
    assert (state, cause) == (State.COMPLETED, Cause.COMPLETED)
    assert "memory" in sentence


def test_the_rank_that_fell_first_is_named() -> None:
    ends = [
        Fact(
            "rank_ended", FIRST, 1.0, 1, {"rank": 1, "status": 143, "host": "n1", "time": 9.0}, "a"
        ),
        Fact("rank_ended", FIRST, 1.0, 2, {"rank": 3, "status": 1, "host": "n2", "time": 8.0}, "b"),
    ]
    record = fold(REQUEST, [*ends, fact("ended", exit_code=1, cause="exit_code")])
    assert record.verdict is not None and record.verdict.rank == 3
    assert "rank 3 on n2 fell first" in record.verdict.sentence


@pytest.mark.parametrize("wrong", [3600.0, -3600.0])
def test_where_clocks_disagree_a_rank_that_nobody_killed_fell_first(wrong: float) -> None:
    """Its launcher ended the rank of the other node, whose clock is an hour wrong."""
    ends = [
        {"rank": 0, "status": 3, "host": "n1", "time": 8.0},
        {"rank": 1, "status": 143, "host": "n2", "time": 9.0 + wrong},
    ]
    facts = [Fact("rank_ended", FIRST, 1.0, n, end, "a") for n, end in enumerate(ends)]
    verdict = fold(REQUEST, [*facts, fact("ended", exit_code=3, cause="exit_code")]).verdict
    assert verdict is not None and verdict.rank == 0
    # By clocks that agree, a kill may well be the first.
    facts[1].data["time"] = 7.0
    verdict = fold(REQUEST, [*facts, fact("ended", exit_code=3, cause="exit_code")]).verdict
    assert verdict is not None and verdict.rank == 1


def test_the_newest_attempt_gives_the_state() -> None:
    second = Attempt(1, 1)
    record = fold(
        REQUEST,
        [
            *WHOLE_LIFE[:4],
            fact("ended", cause="signal", signal=15, interrupted=True),
            fact("started", second, host="n3"),
        ],
    )
    assert [str(a.attempt) for a in record.attempts] == ["1.0", "1.1"]
    assert record.state is State.STARTING
    assert record.job_id == "7"


def test_tags_change_and_properties_do_not() -> None:
    facts = [
        Fact("tags", FIRST, 1.0, 1, {"set": {"a": "1", "b": "2"}}, "c1"),
        Fact("tags", FIRST, 2.0, 1, {"set": {"a": "3"}, "removed": ["b"]}, "c2"),
        Fact("properties", FIRST, 1.0, 2, {"set": {"p": "first"}}, "c1"),
        Fact("properties", FIRST, 2.0, 2, {"set": {"p": "second"}}, "c2"),
    ]
    for order in itertools.permutations(facts):
        record = fold(REQUEST, order)
        assert dict(record.tags) == {"a": "3"}
        assert dict(record.properties) == {"p": "first"}


json_text = st.text(st.characters(exclude_categories=()), max_size=30)
json_data = st.dictionaries(
    json_text,
    st.one_of(
        st.integers(), st.floats(allow_nan=False), json_text, st.lists(json_text, max_size=3)
    ),
    max_size=4,
)


@given(json_data, st.integers(0, 5), st.integers(0, 5))
def test_a_line_gives_back_its_fact(data: dict[str, object], submission: int, restart: int) -> None:
    told = Fact("of_a_later_version", Attempt(submission, restart), 12.5, 4, data, "w")
    line = encode(told)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert decode(line, "w") == told


def test_torn_and_foreign_lines_are_counted_and_skipped() -> None:
    lines = [encode(f) for f in WHOLE_LIFE]
    chosen = random.Random(0)
    for _ in range(50):
        broken = bytearray(lines[2])
        broken[chosen.randrange(len(broken) - 1)] ^= 1 + chosen.randrange(255)
        page = decode_page(lines[0] + bytes(broken) + lines[1] + b"half a li")
        assert [f.kind for f in page.facts] == ["submitting", "submitted"]
        assert page.bad_lines >= 1
        assert page.consumed == len(lines[0] + bytes(broken) + lines[1])


def test_a_run_that_was_only_asked_for_has_a_record() -> None:
    record: RunRecord = fold(REQUEST, [])
    assert record.state is State.NOT_STARTED and record.job_id is None


def interrupted() -> list[Fact]:
    """An agent that was told to stop, and did."""
    end = {"exit_code": None, "signal": 15, "cause": "signal", "interrupted": True}
    return [fact("started", host="n1"), fact("running"), fact("ended", **end)]


def test_an_interrupted_run_goes_on_while_the_scheduler_says_so() -> None:
    word = fact("scheduler", writer="~", state="Finalizing", raw="COMPLETING")
    record = fold(REQUEST, [*interrupted(), word])
    assert (record.state, record.verdict, record.has_ended) == (State.FINALIZING, None, False)


def test_an_interrupted_run_waits_for_the_schedulers_word() -> None:
    record = fold(REQUEST, interrupted())
    assert record.verdict is not None
    assert (record.state, record.verdict.cause) == (State.FAILED, Cause.UNKNOWN)
    assert not record.has_ended
    word = fact("scheduler", writer="~", state="Failed", cause="time_limit", raw="TIMEOUT")
    record = fold(REQUEST, [*interrupted(), word])
    assert record.verdict is not None
    assert (record.verdict.cause, record.has_ended) == (Cause.TIME_LIMIT, True)


def test_a_job_that_completed_without_its_agent_ended_with_0() -> None:
    word = fact("scheduler", writer="~", state="Completed", cause="completed", exit_code=0)
    verdict = fold(REQUEST, [*WHOLE_LIFE[:2], word]).verdict
    assert verdict is not None and "the agent never reported" in verdict.sentence
    assert (verdict.cause, verdict.exit_code) == (Cause.COMPLETED, 0)


@pytest.mark.parametrize(
    ("told", "waits"),
    [
        (fact("signal", signal=15, name="SIGTERM"), True),
        (fact("cancel_requested", writer="~", by="alice"), True),
        (fact("signal", signal=10, name="SIGUSR1"), False),
    ],
)
def test_who_was_told_to_stop_may_be_killed_without_a_word(told: Fact, waits: bool) -> None:
    """So the scheduler is asked at once, not when the agent has been silent for long."""
    record = fold(REQUEST, [*interrupted()[:2], told])
    assert (record.attempt.awaits_scheduler, record.has_ended) == (waits, False)
    word = fact("scheduler", writer="~2", state="Canceled", cause="canceled", raw="CANCELLED")
    assert fold(REQUEST, [*interrupted()[:2], told, word]).has_ended


def test_a_requeue_after_an_interruption_is_a_new_attempt() -> None:
    again = fact("scheduler", Attempt(1, 1), writer="~", state="Queued", raw="PENDING")
    record = fold(REQUEST, [*interrupted(), again])
    assert (record.state, record.has_ended, len(record.attempts)) == (State.QUEUED, False, 2)


NEXT_LIFE = fact("started", Attempt(1, 1), host="n2")


@pytest.mark.parametrize("seen", [interrupted(), interrupted()[:2]], ids=["told", "killed"])
def test_an_attempt_that_another_followed_was_requeued(seen: list[Fact]) -> None:
    """Why, only the scheduler knows: by preemption, after a node's failure, or by hand."""
    first = fold(REQUEST, [*seen, NEXT_LIFE]).attempts[0]
    assert first.verdict is not None and first.awaits_scheduler
    assert (first.verdict.cause, first.state) == (Cause.REQUEUED, State.FAILED)
    assert first.verdict.sentence == "the job was requeued; the scheduler has not said why"
    word = scheduler(state="Failed", cause="node_failure", raw="NODE_FAIL")
    nobody = scheduler(state="Failed", cause="requeued")
    for words, sentence in (
        ([word], "a node failed"),
        ([nobody, word], "a node failed"),
        ([nobody], "the job was requeued; the scheduler has not said why"),
    ):
        told = fold(REQUEST, [*seen, NEXT_LIFE, *words]).attempts[0]
        assert told.verdict is not None and not told.awaits_scheduler
        assert told.verdict.sentence == sentence


def test_an_attempt_that_ended_by_itself_keeps_its_end_when_it_is_requeued() -> None:
    ended = fact("ended", exit_code=3, cause="exit_code")
    first = fold(REQUEST, [*interrupted()[:2], ended, NEXT_LIFE]).attempts[0]
    assert first.verdict is not None and not first.awaits_scheduler
    assert first.verdict.cause is Cause.EXIT_CODE


def test_a_second_submission_is_no_requeue() -> None:
    again = fact("started", Attempt(2, 0), host="n2")
    first = fold(REQUEST, [*interrupted(), again]).attempts[0]
    assert first.verdict is not None and first.verdict.cause is Cause.UNKNOWN


def test_a_cancel_as_an_attempt_asks_for_the_next_means_both() -> None:
    """It was told of the attempt that was there; its stop met the next one."""
    asked = [
        fact("started", host="n1"),
        fact("ended", exit_code=42, cause="requeued", message="asked"),
        scheduler(state="Failed", cause="lost", raw="gone")._replace(attempt=Attempt(1, 1)),
    ]
    for canceled, cause in (
        ([], Cause.LOST),
        ([fact("cancel_requested", by="ada")], Cause.CANCELED),
    ):
        verdicts = [attempt.verdict for attempt in fold(REQUEST, [*asked, *canceled]).attempts]
        assert [verdict and verdict.cause for verdict in verdicts] == [Cause.REQUEUED, cause]


def test_our_cancel_stands_where_the_scheduler_has_forgotten_the_job() -> None:
    lost = fact("scheduler", writer="~", state="Failed", cause="lost", raw="gone")
    for seen in (interrupted(), []):
        record = fold(REQUEST, [*seen, fact("cancel_requested", by="alice"), lost])
        assert record.verdict is not None
        assert record.verdict.sentence == "the run was canceled by alice"
        assert record.has_ended


def test_the_job_id_keeps_its_cluster() -> None:
    facts = [fact("started", job_id="7"), fact("submitted", writer="client", job_id="7;big")]
    assert fold(REQUEST, facts).job_id == "7;big"


# -- an agent that is gone ----------------------------------------------------------------------

LOST = fact(
    "ended",
    writer="node-n1",
    exit_code=None,
    signal=9,
    cause="agent_lost",
    interrupted=True,
    evidence=["the agent on n1 ended without a word"],
)


def test_a_lost_agent_is_a_verdict_until_the_scheduler_knows_better() -> None:
    record = fold(REQUEST, [*WHOLE_LIFE[:4], LOST])
    assert record.verdict is not None and record.verdict.cause is Cause.AGENT_LOST
    assert not record.has_ended
    goes_on = fold(
        REQUEST, [*WHOLE_LIFE[:4], LOST, scheduler(state="Finalizing", raw="COMPLETING")]
    )
    assert (goes_on.state, goes_on.verdict) == (State.FINALIZING, None)
    forgotten = scheduler(state="Failed", cause="lost", raw="the job is unknown to the scheduler")
    record = fold(REQUEST, [*WHOLE_LIFE[:4], LOST, forgotten])
    assert record.has_ended and record.verdict is not None
    assert record.verdict.cause is Cause.AGENT_LOST


@pytest.mark.parametrize(
    ("raw", "cause", "found"),
    [
        ("FAILED 0:9", Cause.SIGNAL, Cause.AGENT_LOST),
        ("FAILED 137:0", Cause.EXIT_CODE, Cause.AGENT_LOST),
        ("OUT_OF_MEMORY", Cause.OUT_OF_MEMORY, Cause.OUT_OF_MEMORY),
        ("NODE_FAIL", Cause.NODE_FAILURE, Cause.NODE_FAILURE),
        ("PREEMPTED", Cause.PREEMPTED, Cause.PREEMPTED),
        ("TIMEOUT", Cause.TIME_LIMIT, Cause.TIME_LIMIT),
        ("CANCELLED by 0", Cause.CANCELED, Cause.CANCELED),
    ],
)
def test_the_scheduler_says_why_an_agent_is_gone(raw: str, cause: Cause, found: Cause) -> None:
    word = scheduler(state="Failed", cause=str(cause), raw=raw)
    record = fold(REQUEST, [*WHOLE_LIFE[:4], LOST, word])
    assert record.has_ended and record.verdict is not None
    assert record.verdict.cause is found


def test_a_lost_agent_whose_job_goes_on_was_requeued() -> None:
    first = fold(REQUEST, [*WHOLE_LIFE[:4], LOST, NEXT_LIFE]).attempts[0]
    assert first.verdict is not None and first.verdict.cause is Cause.REQUEUED
    assert first.awaits_scheduler
    word = scheduler(state="Failed", cause="node_failure", raw="NODE_FAIL")
    first = fold(REQUEST, [*WHOLE_LIFE[:4], LOST, NEXT_LIFE, word]).attempts[0]
    assert first.verdict is not None and first.verdict.cause is Cause.NODE_FAILURE


def test_what_slurm_did_not_end_is_told_by_the_agent() -> None:
    """A step that was canceled by hand: Slurm says no more than that the job failed."""
    told = {"signal": None, "exit_code": 143, "cause": "exit_code", "interrupted": True}
    seen = [*WHOLE_LIFE[:4], fact("ended", evidence=["*** STEP CANCELLED"], **told)]
    word = {"state": "Failed", "cause": "exit_code", "raw": "FAILED 143:0"}
    verdict = fold(REQUEST, [*seen, scheduler(**word)]).verdict
    assert verdict is not None and verdict.cause is Cause.SIGNAL
    assert verdict.evidence == ("*** STEP CANCELLED",)
    word = {"state": "Failed", "cause": "time_limit", "raw": "TIMEOUT"}
    verdict = fold(REQUEST, [*seen, scheduler(**word)]).verdict
    assert verdict is not None and verdict.cause is Cause.TIME_LIMIT
