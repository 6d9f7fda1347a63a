"""Independent tasks: their ids, their arrays, their plans, and what they make of their parent."""

from __future__ import annotations

import json
import subprocess

import pytest

from hpcrun.errors import PlanError
from hpcrun.fold import fold
from hpcrun.kinds import REQUEST
from hpcrun.layout import Attempt, task_ids
from hpcrun.plan import Tasks
from hpcrun.record import Fact, RunRecord
from hpcrun.resolve.tasks import task_of
from hpcrun.state import State
from hpcrun.workflow.cut import array_of, element_of
from hpcrun.workflow.gathering import arrays_of, gathered
from hpcrun.workflow.request import request_of, request_of_task
from hpcrun.workflow.tasks import chunks_of
from tests.make_plan import RUN_ID, SITE, from_yaml, plan, script, site

ASKED = (
    "script: train.py\narguments: [--part, '${{task_index}}/${{task_count}}']\n"
    "distributed_job_config: {kind: parallel_task, task_count: 3, max_parallel: 2}\n"
)
REQUEST_OF_PARENT = {
    "run_id": RUN_ID,
    "experiment": "digits",
    "user": "ada",
    "target": "lab/gpu",
    "created": 1.7e9,
    "tasks": {"count": 3, "at_once": None},
}


def task(index: int, state: str, job_id: str | None = None) -> RunRecord:
    place = {"index": index, "array": f"{RUN_ID}.0", "element": index}
    request = {**REQUEST_OF_PARENT, "run_id": task_ids(RUN_ID, 3)[index], "task": place}
    facts = [Fact("submitting", Attempt(1), 1.0, 1, {}, "client")]
    if job_id is not None:
        facts.append(Fact("submitted", Attempt(1), 1.0, 2, {"job_id": job_id}, "client"))
    if state != "Queued":
        facts.append(Fact("started", Attempt(1), 2.0, 1, {}, "agent"))
    ends = {"Completed": "completed", "Failed": "exit_code", "Canceled": "canceled"}
    if state in ends:
        data = {"cause": ends[state], "exit_code": int(state == "Failed"), "signal": None}
        facts.append(Fact("ended", Attempt(1), 3.0, 2, data, "agent"))
    return fold({k: v for k, v in request.items() if k != "tasks"}, facts)


def test_ids_follow_the_parents_and_go_round() -> None:
    assert task_ids("a_1700000000_fffffffe", 3) == [
        "a_1700000000_ffffffff",
        "a_1700000000_00000000",
        "a_1700000000_00000001",
    ]


def test_a_run_has_its_tasks_as_children_before_they_are_there() -> None:
    assert fold(REQUEST_OF_PARENT, []).children == tuple(task_ids(RUN_ID, 3))


@pytest.mark.parametrize("tasks", [{}, {"count": 0}, {"count": 10**9}, {"count": "3"}, 3])
def test_a_request_with_no_good_count_is_damaged(tasks: object) -> None:
    assert not REQUEST.wrong(REQUEST_OF_PARENT)
    assert REQUEST.wrong({**REQUEST_OF_PARENT, "tasks": tasks}) == ["tasks"]


def test_tasks_are_split_at_the_greatest_array() -> None:
    chunks = chunks_of("r", Tasks(8, at_once=7), size=3)
    assert [chunk.options for chunk in chunks] == [
        ("--job-name=r.0", "--array=0-2%3"),
        ("--job-name=r.1", "--array=0-2%2"),
        ("--job-name=r.2", "--array=0-1%2"),
    ]
    assert [number for chunk in chunks for number in chunk.tasks] == [*range(8)]
    (whole,) = chunks_of("r", Tasks(1001), size=1001)
    assert whole.options == ("--job-name=r.0", "--array=0-1000")


def test_no_task_takes_another_ones_environment_or_output_for_its_own() -> None:
    environment = "environment: {virtual_environment: /venv, pack: sbcast}\n"
    outputs = "outputs: {made: {path: '/made/{run-id}', mode: direct}}\n"
    parent = plan(from_yaml(ASKED + environment + outputs), packed="/packs/x.tar.gz")
    for index, run_id in enumerate(task_ids(RUN_ID, 2)):
        place = f"/tmp/hpcrun-{run_id.rsplit('_', 1)[-1]}-env"
        text = script(task_of(parent, index, site().scheduler))
        assert f"export HPCRUN_STAGED={place}\n" in text
        assert f"export VIRTUAL_ENV={place}/root\n" in text
        assert f"task.sh {place}/root/bin/python train.py" in text
        assert f"export HPCRUN_OUTPUT_MADE=/made/{run_id}\n" in text
        assert RUN_ID.rsplit("_", 1)[-1] not in text


def test_a_record_names_the_places_of_its_own_task() -> None:
    where = "working_directory: node\ninputs: {x: {path: /x, mode: stage}}\n"
    parent = plan(from_yaml(ASKED + where))
    request = request_of(parent, "digest", {"git.commit": "abc"}) | {"host": "login"}
    request["agent"]["umask"] = "0027"
    request["environment"]["packages"] = {"lock": ["a==1"]}
    own = request_of_task(task_of(parent, 1, site().scheduler), request)
    of_parent, of_task = (run_id[-8:] for run_id in (RUN_ID, task_ids(RUN_ID, 2)[1]))
    assert of_parent in json.dumps(request) and of_parent not in json.dumps(own)
    assert own["run_id"].endswith(of_task)
    assert own["agent"]["spool"] == f"/tmp/hpcrun-{of_task}"
    assert own["working_directory"]["folder"] == f"/tmp/hpcrun-{of_task}-work"
    assert own["data"]["folder"] == f"/tmp/hpcrun-{of_task}-data"
    assert (own["agent"]["umask"], own["host"]) == ("0027", "login")
    assert own["environment"]["packages"] == {"lock": ["a==1"]}
    assert (own["snapshot"], own["properties"]) == (request["snapshot"], {"git.commit": "abc"})


def test_more_tasks_than_jobs_of_a_user_are_refused() -> None:
    few = site(SITE.replace("scheduler:\n", "scheduler:\n  max_jobs: 2\n"))
    with pytest.raises(PlanError, match="3 tasks asked of target lab/gpu, which takes 2 jobs"):
        plan(from_yaml(ASKED), few)
    assert plan(from_yaml(ASKED.replace("task_count: 3", "task_count: 2")), few).tasks


def test_a_task_by_itself_asks_for_its_image_as_well() -> None:
    image = "environment: {docker: {base_image: python:3.12, runtime: shifter}}\n"
    parent = plan(from_yaml(ASKED + image))
    assert "#SBATCH --image=docker:python:3.12" in script(parent)
    assert "#SBATCH --image=docker:python:3.12" in script(task_of(parent, 0, site().scheduler))


@pytest.mark.parametrize(("size", "told"), [(0, "MaxArraySize is 0"), (3, "cannot run 2 at once")])
def test_what_no_arrays_can_hold_is_refused(size: int, told: str) -> None:
    with pytest.raises(PlanError, match=told):
        chunks_of("r", Tasks(8, at_once=2), size)


def test_the_script_of_the_arrays_is_as_short_for_many_tasks_and_knows_their_ids() -> None:
    few, many = (plan(from_yaml(ASKED.replace("3,", f"{n},"))) for n in (3, 100_000))
    whole = script(few)
    assert whole == script(many)
    text = whole[whole.index("\nrun=") : whole.index("\n# Slurm's signal")] + '\necho "$task"\n'
    for run_id in (RUN_ID, "a_b_1700000000_fffffffe"):
        ids = task_ids(run_id, 100_000)
        for first, element in ((0, 0), (0, 1), (1001, 7), (99_099, 900)):
            words = ["bash", "-c", text.replace(RUN_ID, run_id), "bash", str(first)]
            env = {"SLURM_ARRAY_TASK_ID": str(element)}
            done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
            assert done.stdout == f"{ids[first + element]}\n"


def test_a_task_is_planned_as_a_run_of_its_own() -> None:
    parent, where = plan(from_yaml(ASKED)), site()
    one = task_of(parent, 1, where.scheduler)
    alone = script(one)
    assert one.run_id == task_ids(RUN_ID, 3)[1]
    assert f"#SBATCH --job-name={one.run_id}\n" in alone and RUN_ID not in alone
    assert "export HPCRUN_TASK_INDEX=1 HPCRUN_TASK_COUNT=3\n" in alone
    assert "export HPCRUN_PLACEHOLDERS=2\n" in alone


@pytest.mark.parametrize(
    ("asked", "where", "told"),
    [
        (ASKED, "local", "target local has not"),
        (ASKED, "forbids", "lab takes no job arrays, and independent tasks are one: none here"),
        (ASKED, "none", "lab takes no job arrays"),
        (ASKED[: ASKED.index("distributed")], "lab", "is of independent tasks, and this run has"),
    ],
)
def test_tasks_are_refused_where_there_are_none(asked: str, where: str, told: str) -> None:
    from tests.make_plan import SITE, shipped

    more = {"forbids": "directives: {forbid: {--array: none here}}", "none": "max_array_size: 0"}
    text = SITE.replace("scheduler:\n", f"scheduler:\n  {more.get(where, 'poll: {}')}\n")
    with pytest.raises(PlanError) as refused:
        plan(from_yaml(asked), shipped("local") if where == "local" else site(text))
    (problem,) = refused.value.problems
    assert told in f"{problem.message}: {problem.hint}"


@pytest.mark.parametrize(
    ("states", "kind", "told"),
    [
        ([], "scheduler", State.NOT_STARTED),
        (["Queued"] * 3, "scheduler", State.QUEUED),
        (["Completed", "Queued", "Queued"], "scheduler", State.RUNNING),
        (["Completed"] * 3, "ended", "all 3 tasks have completed"),
        (["Completed", "Failed", "Canceled"], "ended", "1 of 3 tasks has failed, 1 of 3 tasks has"),
        (["Completed", "Canceled", "Canceled"], "ended", "2 of 3 tasks have been canceled; the"),
    ],
)
def test_a_run_does_what_its_tasks_do(states: list[str], kind: str, told: str) -> None:
    tasks = [task(index, state) for index, state in enumerate(states)]
    found, data = gathered(3, tasks, are_made=bool(tasks))
    assert found == kind and (data.get("message") or data["state"]).startswith(told)
    ends = {"all": State.COMPLETED, "1 o": State.FAILED, "2 o": State.CANCELED}
    if kind == "ended":
        record = fold(REQUEST_OF_PARENT, [Fact(kind, Attempt(1), 4.0, 1, data, "client")])
        assert record.state is ends[told[:3]] and record.has_ended


def test_tasks_that_were_never_made_have_failed_once_nobody_makes_them() -> None:
    made = [task(0, "Completed")]
    assert gathered(3, made, are_made=False)[0] == "scheduler"
    kind, data = gathered(3, made, are_made=True)
    assert (kind, data["message"]) == ("ended", "2 of 3 are not there: never submitted, or deleted")


def test_the_jobs_of_tasks_are_their_arrays() -> None:
    jobs = ["7_0;lab", "7_1;lab", "9"]
    tasks = [task(index, "Queued", job) for index, job in enumerate(jobs)]
    assert arrays_of(tasks) == "7;lab,9"
    assert arrays_of([*tasks, task(0, "Queued")]) is None
    assert element_of(array_of("7_0;lab"), 12) == "7_12;lab"
