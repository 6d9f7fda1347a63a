"""Runs that wait for others: what is asked of Slurm, what is refused, what the agent sees."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from hpcrun.agent import awaiting
from hpcrun.agent.policy import After
from hpcrun.errors import PlanError, SchedulerError
from hpcrun.fold import fold
from hpcrun.layout import Attempt, task_ids
from hpcrun.plan import Awaited, Awaiting
from hpcrun.record import Fact, RunRecord, decode_page, encode
from hpcrun.workflow.after import dependency
from tests.commands import hpcrun, told
from tests.lab import eventually

REQUEST = {
    "run_id": "line_1700000000_0123abcd",
    "experiment": "line",
    "user": "alice",
    "target": "lab/gpu",
    "created": 1.7e9,
}


def facts_of(state: str, job_id: str | None = "7") -> list[Fact]:
    facts = [Fact("submitting", Attempt(1), 1.0, 0, {"token": "t"}, "client")]
    if job_id is not None:
        facts.append(Fact("submitted", Attempt(1), 2.0, 1, {"job_id": job_id}, "client"))
    cause = {"Completed": "completed", "Failed": "exit_code"}.get(state)
    if cause is not None:
        code = 0 if state == "Completed" else 1
        data = {"exit_code": code, "signal": None, "cause": cause, "interrupted": False}
        facts.append(Fact("ended", Attempt(1), 3.0, 2, data, "agent-1.0"))
    return facts


def run(state: str, job_id: str | None = "7", target: str = "lab/gpu") -> RunRecord:
    return fold({**REQUEST, "target": target}, facts_of(state, job_id))


def waiting(condition: str = "afterok", any_of: bool = False) -> Awaiting:
    return Awaiting((Awaited("alice", REQUEST["run_id"], "/w"),), condition, any_of)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "condition, any_of, states, options",
    [
        ("afterok", False, ["Queued"], "--dependency=afterok:1"),
        ("afterany", False, ["Queued", "Queued"], "--dependency=afterany:1,afterany:2"),
        ("afterok", True, ["Queued", "Queued"], "--dependency=afterok:1?afterok:2"),
        ("afterok", False, ["Completed", "Queued"], "--dependency=afterok:2"),
        ("afterok", True, ["Failed", "Queued"], "--dependency=afterok:2"),
        ("afterany", False, ["Failed", "Queued"], "--dependency=afterany:2"),
        ("afterok", False, ["Completed"], None),
        ("afterany", False, ["Failed"], None),
        ("afterok", True, ["Completed", "Queued"], None),
        ("afterok", True, ["Failed", "Completed"], None),
    ],
)
def test_slurm_is_told_of_what_goes_on(
    condition: str, any_of: bool, states: list[str], options: str | None
) -> None:
    records = [run(state, str(number)) for number, state in enumerate(states, 1)]
    told = dependency(waiting(condition, any_of), records, "lab/cpu")
    assert told == ((options, "--kill-on-invalid-dep=yes") if options else ())


def test_the_number_of_a_job_stands_without_its_cluster() -> None:
    assert dependency(waiting(), [run("Queued", "7;lab")], "lab")[0] == "--dependency=afterok:7"


def test_one_of_several_runs_cannot_be_several_jobs() -> None:
    arrays, other = run("Queued", "7,8"), run("Queued", "9")
    with pytest.raises(PlanError, match="goes on in 2 jobs, and Slurm cannot wait for one of"):
        dependency(waiting(any_of=True), [arrays, other], "lab")
    whole = "--dependency=afterok:7,afterok:8"
    assert dependency(waiting(any_of=True), [arrays, run("Failed")], "lab")[0] == whole
    assert dependency(waiting(), [arrays, other], "lab")[0] == f"{whole},afterok:9"


def test_of_tasks_that_were_submitted_again_the_new_jobs_are_waited_for() -> None:
    """The array of the first ones has failed for ever."""
    again = Fact("submitted", Attempt(2), 4.0, 3, {"job_id": "20,31"}, "client")
    parent = fold({**REQUEST, "tasks": {"count": 3}}, [*facts_of("Failed", "20"), again])
    tasks = [run("Completed", "20_0"), run("Queued", "31"), run("Queued", "20_2")]
    options = dependency(waiting(), [parent], "lab", lambda record: tasks)
    assert options[0] == "--dependency=afterok:31,afterok:20_2"
    assert dependency(waiting(), [parent], "lab")[0] == "--dependency=afterok:20,afterok:31"


@pytest.mark.parametrize("any_of, states", [(False, ["Failed", "Queued"]), (True, ["Failed"])])
def test_what_can_never_be_is_refused_with_the_verdict(any_of: bool, states: list[str]) -> None:
    with pytest.raises(PlanError, match="is Failed: the command ended with exit code 1"):
        dependency(waiting(any_of=any_of), [run(state) for state in states], "lab")


def test_a_site_does_not_hear_of_another_ones_runs() -> None:
    with pytest.raises(PlanError, match="goes on at local, and lab/gpu does not hear of its end"):
        dependency(waiting(), [run("Queued", target="local")], "lab/gpu")
    assert dependency(waiting(), [run("Completed", target="local")], "lab/gpu") == ()


def test_a_run_without_a_job_cannot_be_waited_for_yet() -> None:
    with pytest.raises(SchedulerError) as raised:
        dependency(waiting(), [run("NotStarted", None)], "lab")
    assert raised.value.transient


# -- what the agent sees ------------------------------------------------------------------------


def record_of(folder: Path, state: str, **more: object) -> str:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({**REQUEST, **more}))
    by_writer: dict[str, bytes] = {}
    for fact in facts_of(state):
        by_writer[fact.writer] = by_writer.get(fact.writer, b"") + encode(fact)
    for writer, lines in by_writer.items():
        (folder / f"{writer}.jsonl").write_bytes(lines)
    return str(folder)


@pytest.mark.parametrize(
    "condition, any_of, states, may_begin",
    [
        ("afterok", False, ["Completed", "Completed"], True),
        ("afterok", False, ["Completed", "Queued"], None),
        ("afterok", False, ["Queued", "Failed"], False),
        ("afterok", True, ["Queued", "Failed"], None),
        ("afterok", True, ["Failed", "Failed"], False),
        ("afterok", True, ["Failed", "Completed"], True),
        ("afterany", False, ["Failed", "Completed"], True),
        ("afterany", True, ["Queued", "Queued"], None),
    ],
)
def test_the_records_tell_whether_it_may_begin(
    tmp_path: Path, condition: str, any_of: bool, states: list[str], may_begin: bool | None
) -> None:
    folders = [record_of(tmp_path / str(n), state) for n, state in enumerate(states)]
    assert awaiting.look(After(tuple(folders), condition, any_of)).may_begin is may_begin


@pytest.mark.parametrize(
    "condition, states, may_begin",
    [
        ("afterok", ["Completed", "Completed"], True),
        ("afterok", ["Completed", "Queued"], None),
        ("afterok", ["Queued", "Failed"], False),
        ("afterok", ["Completed"], None),
        ("afterany", ["Failed", "Completed"], True),
    ],
)
def test_a_run_of_tasks_is_what_its_tasks_are(
    tmp_path: Path, condition: str, states: list[str], may_begin: bool | None
) -> None:
    """Nobody writes down its own end before somebody looks at it."""
    parent = record_of(tmp_path / str(REQUEST["run_id"]), "Queued", tasks={"count": 2})
    for run_id, state in zip(task_ids(str(REQUEST["run_id"]), 2), states, strict=False):
        record_of(tmp_path / run_id, state)
    assert awaiting.look(After((parent,), condition)).may_begin is may_begin


def test_a_count_of_tasks_that_cannot_be_holds_nobody(tmp_path: Path) -> None:
    parent = record_of(tmp_path / str(REQUEST["run_id"]), "Queued", tasks={"count": 10**12})
    standing = awaiting.look(After((parent,)))
    assert standing.may_begin is None and "is damaged" in standing.why


def test_a_run_that_is_sealed_or_gone(tmp_path: Path) -> None:
    active, runs = tmp_path / "active", tmp_path / "runs/2023-11"
    after = After((str(active / REQUEST["run_id"]),))  # type: ignore[operator]
    assert awaiting.look(after).may_begin is None
    assert "its record is gone" in awaiting.look(after).why
    record_of(active / f".sealed-{REQUEST['run_id']}.0", "Completed")
    record_of(active / f".sealed-{REQUEST['run_id']}.10", "Failed")
    assert awaiting.look(after).may_begin is False
    for folder in active.iterdir():
        folder.rename(tmp_path / folder.name)
    runs.mkdir(parents=True)
    (runs / f"{REQUEST['run_id']}.h5").touch()
    assert awaiting.look(after).may_begin is True


@pytest.mark.parametrize("name", ["run.json", "evil.jsonl"])
def test_what_a_run_of_another_turns_into_holds_nobody(tmp_path: Path, name: str) -> None:
    """A pipe is not waited for, and what is nested too deep is no record."""
    folder = record_of(tmp_path / "active" / str(REQUEST["run_id"]), "Queued")
    planted = Path(folder, name)
    planted.unlink(missing_ok=True)
    os.mkfifo(planted)
    standing = awaiting.look(After((folder,)))
    assert standing.may_begin is None and "not a plain file" in standing.why
    planted.unlink()
    planted.write_text("[" * 200_000)
    assert awaiting.look(After((folder,))).may_begin is None


# -- on this machine ----------------------------------------------------------------------------


def submitted(code: str, *words: str) -> str:
    Path("train.py").write_text(code)
    return str(told("submit", *words)["run_id"])


def test_a_local_run_waits_for_others(project: Path) -> None:
    go = project / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)\n"
    first = submitted(wait)
    soon = ("--set", "resources.time=61s", "--set", "stop.lead=60s")
    second = submitted("print('second')", "--after", first, *soon)
    failing = submitted(wait + "raise SystemExit(3)")
    third = submitted("print('third')", "--after", failing)
    eventually(lambda: told("show", second)["status"] not in ("NotStarted", "Queued"))
    assert "second" not in hpcrun("logs", second).stdout
    journal = Path(told("show", second)["record"], "agent-1.0.jsonl")
    begun = decode_page(journal.read_bytes()).facts[0].time
    eventually(lambda: time.time() > begun + 1.5)
    go.touch()
    assert told("wait", second)["status"] == "Completed"
    # What it waited is none of its time: nobody told it to stop before it began.
    kinds = [fact.kind for fact in decode_page(journal.read_bytes()).facts]
    assert "stop_requested" not in kinds[: kinds.index("running")]
    assert told("wait", third, code=21)["status"] == "Canceled"
    told_of = told("show", third)["verdict"]
    assert told_of["cause"] == "canceled"
    assert f"run {failing}, which it waits for, is Failed" in told_of["sentence"]
    assert "third" not in hpcrun("logs", third).stdout
    assert "afterok" in hpcrun("show", third).stdout
    refused = hpcrun("submit", "--after", failing, code=3).stderr
    assert "the command ended with exit code 3" in refused
    assert len(told("list")) == 4


def test_a_run_that_is_none_stands_with_its_line(project: Path) -> None:
    (project / "run.yaml").write_text(
        "script: train.py\nscrpt: x\nafter:\n  runs: [nothing]\n  condition: afterall\n"
    )
    told_of = hpcrun("submit", code=2).stderr
    for words in ("run.yaml:2", "run.yaml:4: no run 'nothing'", "run.yaml:5"):
        assert words in told_of, told_of
    (project / "run.yaml").write_text("script: train.py\n")
    told_of = hpcrun("submit", "--after", "nothing", code=2).stderr
    assert "--after: no run 'nothing'" in told_of, told_of
