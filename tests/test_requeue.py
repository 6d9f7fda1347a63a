"""When a run begins its next attempt by itself, and when it stops doing so."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Run, Workspace
from hpcrun.agent.end import End
from hpcrun.agent.past import Mark, Past, spent
from hpcrun.agent.policy import Policy
from hpcrun.agent.requeue import may_ask, obstacle, refused, wish
from hpcrun.config import Requeue, Resources, Stop
from hpcrun.errors import ConfigError, PlanError, WaitTimeout
from hpcrun.fold import fold
from hpcrun.layout import Attempt, JournalKind
from hpcrun.record import Fact
from hpcrun.state import Cause, State
from hpcrun.workflow.request import agent_settings
from tests.lab import eventually
from tests.local_run import submit, workspace
from tests.make_plan import SITE, from_yaml, plan, shipped, site

__all__ = ["workspace"]

POLICY = Policy(exit_code=42, at_time_limit=True, max_attempts=10)
DONE, ASKS, FAILS = (End(n, None, "exit_code" if n else "completed") for n in (0, 42, 3))

# -- who asks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "end", "over", "heeded", "words"),
    [
        (POLICY, DONE, False, False, ""),
        (POLICY, FAILS, False, False, ""),
        (POLICY, FAILS, False, True, ""),
        (POLICY, ASKS, False, False, "the command asked for a requeue with exit code 42"),
        (POLICY, ASKS, True, True, "the command asked for a requeue with exit code 42"),
        (POLICY._replace(exit_code=0), ASKS, False, False, ""),
        (POLICY._replace(exit_code=0), DONE, False, False, ""),
        (POLICY, DONE, False, True, "the command stopped for the time limit"),
        (POLICY, End(None, 15, "time_limit"), True, False, "the command was ended for the time"),
        (POLICY._replace(at_time_limit=False), DONE, False, True, ""),
        (POLICY._replace(at_time_limit=False), End(None, 15, "time_limit"), True, False, ""),
        (POLICY, ASKS._replace(interrupted=True), False, False, ""),
    ],
)
def test_who_asks(policy: Policy, end: End, over: bool, heeded: bool, words: str) -> None:
    said = wish(policy, end, over, heeded)
    assert said.startswith(words) and bool(said) == bool(words)


@pytest.mark.parametrize(
    ("status", "ranks", "asks"),
    [
        (137, [42], True),
        (1, [42, 42], True),
        (1, [0, 42, 143], True),
        (1, [1, 42], False),
        (143, [0, 42, 1, 143], True),
        (1, [143, 42, 1], False),
        (1, [1], False),
        (137, [137], False),
        (0, [42], False),
        (42, [1], True),
    ],
)
def test_ranks_ask_whatever_their_launcher_ends_with(
    status: int, ranks: list[int], asks: bool
) -> None:
    end = End(status, None, "exit_code" if status else "completed")
    assert bool(wish(POLICY, end, False, False, ranks)) is asks
    assert not wish(POLICY._replace(exit_code=0), end, False, False, ranks)
    assert may_ask(POLICY._replace(at_time_limit=False), end, False) is bool(status)


# -- who may --------------------------------------------------------------------------------------


def marks(*steps: int | None, checkpoints: tuple[str | None, ...] = ()) -> Past:
    """A run whose attempts began at these steps, and that is at the last of them now."""
    whole = checkpoints or (None,) * len(steps)
    *begins, now = [Mark(*pair) for pair in zip(steps, whole, strict=True)]
    return Past({Attempt(1, n): mark for n, mark in enumerate(begins)}, now, None)


@pytest.mark.parametrize(
    ("past", "words"),
    [
        (marks(None, None), ""),
        (marks(None, 5), ""),
        (marks(None, 5, 5), ""),
        (
            marks(None, 5, 5, 5),
            "two attempts in a row made no progress: the greatest step is still 5",
        ),
        (marks(None, 5, 5, 6), ""),
        (marks(None, None, None), "two attempts in a row made no progress: no step was logged"),
        (marks(5, 5, 5, checkpoints=("a@1", "a@2", "a@2")), ""),
        (marks(5, 5, 5, checkpoints=("a@1", "a@1", "a@2")), ""),
        (marks(5, 5, 5, checkpoints=("a@1", "a@1", "a@1")), "two attempts in a row"),
    ],
)
def test_progress(past: Past, words: str) -> None:
    attempt = max(past.begins)
    said = obstacle(POLICY, attempt, past, None, 0)
    assert said.startswith(words) and bool(said) == bool(words)


def test_the_cap_and_what_is_left() -> None:
    goes_on = marks(*range(12))
    assert obstacle(POLICY, Attempt(1, 8), goes_on, None, 0) == ""
    words = "it was attempt 10, and requeue.max_attempts is 10"
    assert obstacle(POLICY, Attempt(1, 9), goes_on, None, 0) == words
    assert obstacle(POLICY, Attempt(1, 1), goes_on, 121, 120) == ""
    words = "120 s are left of max_run_duration_seconds"
    assert obstacle(POLICY, Attempt(1, 1), goes_on, 120, 120) == words


def test_what_stopped_early_and_goes_on_no_more_has_not_completed() -> None:
    end = refused("the command stopped for the time limit", "why not", DONE)
    assert (end.cause, end.exit_code) == ("time_limit", 0)
    assert end.message == "the command stopped for the time limit, and was not requeued: why not"
    assert refused("it asked", "why not", ASKS).cause == "exit_code"


@pytest.mark.parametrize(
    ("why", "hint"),
    [
        ("two attempts in a row made no progress: no step was logged", "`checkpoints.patterns`"),
        ("it was attempt 10, and requeue.max_attempts is 10", "with as many attempts once more"),
        ("3 s are left of max_run_duration_seconds", "in a new run"),
        ("Slurm says Requested operation is disabled", "`requeue: {allowed: true}`"),
    ],
)
def test_a_run_that_was_not_requeued_says_what_to_change(why: str, hint: str) -> None:
    end = refused("the command stopped for the time limit", why, DONE)
    request = {"run_id": "r", "experiment": "e", "user": "u", "target": "t", "created": 1.0}
    verdict = fold(request, [Fact("ended", Attempt(1), 1.0, 1, end.data(), "agent-1.0")]).verdict
    assert verdict is not None and hint in verdict.hint
    assert "at_time_limit" not in verdict.hint


def fact(attempt: Attempt, time: float, kind: str = "heartbeat", **data: Any) -> Fact:
    return Fact(kind, attempt, time, int(time), data, f"agent-{attempt}")


def test_each_attempt_counts_by_its_own_clock() -> None:
    told = [
        fact(Attempt(1, 0), 1000, "started", age=7),
        *(fact(Attempt(1, 0), t) for t in (1030, 1060)),
        *(fact(Attempt(1, 1), t) for t in (50, 75)),
        fact(Attempt(2, 0), 0),
    ]
    assert spent(told, Attempt(2, 0)) == 7 + 60 + 25


# -- what readers see -----------------------------------------------------------------------------

REQUEST = {
    "run_id": "again_1700000000_0123abcd",
    "experiment": "again",
    "user": "ada",
    "target": "local",
    "created": 1.0,
}
FIRST = Attempt(1, 0)
REQUEUED = [
    fact(FIRST, 10, "started", host="n1", job_id="7", nodes=["n1"]),
    fact(FIRST, 20, "ended", **ASKS._replace(cause="requeued", message="it asked").data()),
]


def test_a_run_that_asked_for_its_next_attempt_waits_for_it() -> None:
    record = fold(REQUEST, REQUEUED)
    assert [str(a.attempt) for a in record.attempts] == ["1.0", "1.1"]
    assert (record.state, record.job_id, record.has_ended) == (State.QUEUED, "7", False)
    assert record.attempt.submitted == 20
    # What it waits is not what it takes, whatever the next one's clock says.
    assert record.took(1000) == 10
    second = fact(FIRST._replace(restart=1), 15, "started", host="n2", job_id="7", nodes=["n2"])
    assert fold(REQUEST, [*REQUEUED, second]).took(18) == 10 + 3
    assert fold(REQUEST, [REQUEUED[0], second]).took(18) == 5 + 3
    verdict = record.attempts[0].verdict
    assert verdict is not None and not record.attempts[0].awaits_scheduler
    assert (verdict.cause, verdict.sentence) == (Cause.REQUEUED, "it asked")
    goes_on = fold(REQUEST, [*REQUEUED, fact(Attempt(1, 1), 5, "started", host="n2", job_id="7")])
    assert (goes_on.state, len(goes_on.attempts)) == (State.STARTING, 2)


def test_who_heeded_should_stop_completed_all_the_same() -> None:
    told = [REQUEUED[0], fact(FIRST, 15, "stopping"), fact(FIRST, 20, "ended", **DONE.data())]
    record = fold(REQUEST, told)
    assert record.state is State.COMPLETED and record.verdict is not None
    assert record.verdict.sentence.endswith("after should_stop() had told it to stop")


# -- what is asked --------------------------------------------------------------------------------


def flags(text: str, where: str = SITE) -> list[str]:
    made = plan(from_yaml(f"script: train.py\n{text}"), site(where))
    return [line.text for line in made.directives if line.flag.endswith("requeue")]


def test_slurm_is_told_only_what_the_run_says() -> None:
    assert flags("") == []
    assert flags("requeue: {allowed: true}") == ["--requeue"]
    assert flags("requeue: {allowed: false}") == ["--no-requeue"]
    assert flags("requeue: {at_time_limit: true}") == ["--requeue"]
    assert flags("requeue: {max_attempts: 3}") == []
    forbids = SITE.replace("scheduler:\n", "scheduler:\n  directives: {forbid: {--requeue: no}}\n")
    with pytest.raises(PlanError, match="does not accept --requeue"):
        flags("requeue: {at_time_limit: true}", forbids)
    local = plan(
        from_yaml("script: a.py\nrequeue: {at_time_limit: true}"), shipped("local"), "local"
    )
    assert local.directives == ()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("requeue: {exit_code: 200}", "`requeue.exit_code` is 200, and must be at most 125"),
        ("requeue: {exit_code: -1}", "`requeue.exit_code` is -1"),
        ("requeue: {max_attempts: 0}", "`requeue.max_attempts` is 0"),
        ("requeue: {allowed: false, at_time_limit: true}", "asks for what requeue.allowed forbids"),
    ],
)
def test_what_cannot_be(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        flags(text)
    assert sentence in str(caught.value) and "run.yaml:2" in str(caught.value)


def test_the_agent_is_told() -> None:
    told = agent_settings(plan(from_yaml("script: a.py\n")))
    assert Policy(**told["requeue"]) == Policy(42, False, 10)
    assert (told["max_duration_seconds"], told["stop_lead_seconds"]) == (None, 120)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("max_run_duration_seconds: 7200", 7200),
        ("max_run_duration_seconds: 400000\nrequeue: {at_time_limit: true}", 86400),
        ("max_run_duration_seconds: 400000\nresources: {time: 2h}", 7200),
    ],
)
def test_all_attempts_may_take_more_than_one(text: str, time: int) -> None:
    made = plan(from_yaml(f"script: a.py\n{text}\n"))
    seconds = int(text.split()[1])
    assert made.time_limit is not None and made.time_limit.total_seconds() == time
    assert agent_settings(made)["max_duration_seconds"] == seconds
    assert ("all attempts at most", f"{seconds} s", "run.yaml:2") in made.choices


# -- on this machine ------------------------------------------------------------------------------


def ran(workspace: Workspace, tmp_path: Path, text: str, waits: bool = True, **more: Any) -> Run:
    run = submit(workspace, tmp_path, f"import os, sys, time\n{text}", **more)
    if waits:
        run.wait_for_completion(wait_post_processing=True, raise_on_error=False)
    return run


def told(run: Run) -> list[tuple[str, str, str]]:
    """(attempt, cause, sentence) of each."""
    return [
        (str(a.attempt), str(a.verdict.cause), a.verdict.sentence)
        for a in run.record().attempts
        if a.verdict is not None
    ]


STEP = """\
from hpcrun import Run
run = Run.get_context()
done = len(os.listdir("outputs"))
run.log("loss", done, step=done)
open(f"outputs/done-{done}", "w").close()
"""


def test_an_exit_code_asks_for_the_next_attempt(workspace: Workspace, tmp_path: Path) -> None:
    run = ran(workspace, tmp_path, STEP + "sys.exit(42 if done < 2 else 0)\n")
    asked = "the command asked for a requeue with exit code 42"
    assert told(run) == [
        ("1.0", "requeued", asked),
        ("1.1", "requeued", asked),
        ("1.2", "completed", "the command ended with exit code 0"),
    ]
    attempts = run.record().attempts
    assert len({a.job_id for a in attempts}) == 1
    # They are one process, but the time of each begins with it: should_stop() and limits count so.
    facts, _ = workspace.session.store.facts(run.paths, JournalKind.FACTS)
    began = {f.attempt: f.time - f.data["age"] for f in facts if f.kind == "started"}
    ended = {f.attempt: f.time for f in facts if f.kind == "ended"}
    assert all(began[after] > ended[before] - 0.1 for before, after in pairwise(sorted(began)))
    assert run.get_metrics() == {"loss": [0, 1, 2]}
    assert sorted(p.name for p in Path(run.paths.user_logs).iterdir() if p.is_dir()) == [
        *("1.0", "1.1", "1.2"),
    ]


def test_who_waits_does_not_take_one_attempt_for_the_end(
    workspace: Workspace, tmp_path: Path
) -> None:
    """The files of an attempt are collected before it is known whether another follows."""
    text = STEP + "sys.exit(42 if done < 1 else 0)\n"
    run = ran(workspace, tmp_path, text, waits=False)
    run.wait_for_completion()
    assert len(run.record().attempts) == 2
    run = ran(workspace, tmp_path, "time.sleep(600)\n", waits=False)
    eventually(lambda: run.get_status() == "Running")
    workspace.session.store.append(run.paths, FIRST, "finalizing", {})
    assert run.wait_for_completion()["status"] == "Finalizing"
    workspace.session.store.append(run.paths, FIRST, "finalizing", {"requeue": True})
    with pytest.raises(WaitTimeout):
        run.wait_for_completion(timeout_seconds=1)
    run.cancel()
    run.wait_for_completion(wait_post_processing=True)


def test_one_rank_asks_for_all(workspace: Workspace, tmp_path: Path) -> None:
    """The command is what a launcher is: it starts a rank, and ends with another code."""
    task = "'sh', os.environ['PYTHONPATH'].split(':')[1] + '/hpcrun/agent/task.sh', 'sh', '-c'"
    text = (
        f"import subprocess\nfirst = os.environ['HPCRUN_ATTEMPT'] == '1.0'\n"
        f"if first: subprocess.run([{task}, 'exit 42'], env={{**os.environ, 'RANK': '1'}})\n"
        "if first: os.kill(os.getpid(), 9)\n"
    )
    run = ran(workspace, tmp_path, text)
    assert [(attempt, cause) for attempt, cause, _ in told(run)] == [
        ("1.0", "requeued"),
        ("1.1", "completed"),
    ]


def test_without_progress_it_ends_and_says_so(workspace: Workspace, tmp_path: Path) -> None:
    run = ran(workspace, tmp_path, "sys.exit(42)\n")
    assert [attempt for attempt, _, _ in told(run)] == ["1.0", "1.1"]
    assert told(run)[-1][1:] == (
        "exit_code",
        "the command asked for a requeue with exit code 42, and was not requeued: two attempts in "
        "a row made no progress: no step was logged, and there is no newer checkpoint",
    )


def test_the_cap_over_attempts(workspace: Workspace, tmp_path: Path) -> None:
    run = ran(
        workspace, tmp_path, STEP + "sys.exit(9)\n", requeue=Requeue(exit_code=9, max_attempts=3)
    )
    assert [attempt for attempt, _, _ in told(run)] == ["1.0", "1.1", "1.2"]
    assert told(run)[-1][2].endswith("it was attempt 3, and requeue.max_attempts is 3")
    assert run.get_status() == "Failed"


def test_what_stops_in_time_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    text = STEP + (
        "while done < 2 and not run.should_stop(): time.sleep(0.01)\n"
        "open('outputs/checkpoint-%d' % done, 'w').write('x')\n"
    )
    run = ran(
        *(workspace, tmp_path, text),
        resources=Resources(time="1m"),
        stop=Stop(lead="58s"),
        requeue=Requeue(at_time_limit=True),
    )
    stopped = ("1.0", "requeued", "the command stopped for the time limit")
    assert told(run) == [stopped, ("1.1", "completed", "the command ended with exit code 0")]


def test_what_does_not_stop_is_ended_and_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    text = STEP + "time.sleep(600 if done == 0 else 0)\n"
    resources, requeue = Resources(time="9s"), Requeue(at_time_limit=True)
    run = ran(workspace, tmp_path, text, resources=resources, requeue=requeue)
    ended = ("1.0", "requeued", "the command was ended for the time limit")
    assert told(run) == [ended, ("1.1", "completed", "the command ended with exit code 0")]


def test_all_attempts_together_take_no_more(workspace: Workspace, tmp_path: Path) -> None:
    text = STEP + "sys.exit(42) if done == 0 else time.sleep(600)\n"
    run = ran(workspace, tmp_path, text, max_run_duration_seconds=14)
    sentence = "the run has taken its max_run_duration_seconds (14)"
    assert [(attempt, cause) for attempt, cause, _ in told(run)] == [
        ("1.0", "requeued"),
        ("1.1", "time_limit"),
    ]
    assert told(run)[-1][2] == sentence
    with pytest.raises(PlanError, match="has taken its max_run_duration_seconds"):
        run.resubmit()
    words = ["/bin/bash", run.paths.script, "2"]
    late = {"PATH": "/usr/bin:/bin", "HPCRUN_JOB_ID": "by hand"}
    assert subprocess.run(words, env=late, check=False).returncode == 1
    assert told(run)[-1] == ("2.0", "time_limit", sentence)
    assert len(list(Path(run.paths.outputs).iterdir())) == 2


def test_no_exit_code_asks_if_none_should(workspace: Workspace, tmp_path: Path) -> None:
    run = ran(workspace, tmp_path, "sys.exit(42)\n", requeue=Requeue(exit_code=0))
    ((attempt, cause, sentence),) = told(run)
    assert (attempt, cause) == ("1.0", "exit_code")
    assert sentence.startswith("the command ended with exit code 42")
