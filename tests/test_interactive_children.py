"""Children that a run makes itself: in this process, in a job, without hpcrun, and their ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, HpcrunError, Run
from hpcrun.errors import ConfigError
from hpcrun.layout import JournalKind
from hpcrun.workflow.cancel import cancel
from tests.commands import script_of
from tests.lab import eventually
from tests.metrics_job import PACKAGE, VERSIONS, Job, interpreter
from tests.notebook import companions, left_alone, seen_long_ago

pytestmark = pytest.mark.usefixtures("notebook")


def test_children(experiment: Experiment) -> None:
    with experiment.start_logging(snapshot_directory=None) as run:
        run.log("a", 1)
        with run.child_run("first") as first:
            first.log("a", 2)
            with first.child_run() as grandchild:
                grandchild.log("a", 3)
        second, third = run.create_children(tag_key="lr", tag_values=[0.1, 0.2])
        assert second.get_status() == "NotStarted"
        second.add_properties({"p": "q"})
        assert second.get_status() == "NotStarted"
        second.log("a", 4)
        assert second.get_status() == "Running"
        second.complete()
    assert [c.id for c in run.get_children()] == [third.id, second.id, first.id]
    ids = [c.id for c in run.get_children(recursive=True)]
    assert ids == [third.id, second.id, first.id, grandchild.id]
    assert [c.id for c in run.get_children(tags={"lr": "0.1"})] == [second.id]
    assert [c.id for c in run.get_children(properties={"p": "q"})] == [second.id]
    assert [c.id for c in run.get_children(properties={"p": "r"})] == []
    assert [r.id for r in experiment.get_runs(properties="p", include_children=True)] == [second.id]
    assert [c.id for c in run.get_children(tags="lr", status="NotStarted")] == [third.id]
    assert [c.id for c in run.get_children(type="azureml.scriptrun")] == []
    metrics = run.get_metrics(recursive=True)
    assert metrics == {
        run.id: {"a": 1}, third.id: {}, second.id: {"a": 4}, first.id: {"a": 2},
        grandchild.id: {"a": 3},
    }  # fmt: skip
    assert run.get_metrics("b", recursive=True)[first.id] == {}
    parent = grandchild.parent
    assert parent is not None and parent.id == first.id and run.parent is None
    assert first.display_name == "first"
    assert [r.id for r in experiment.get_runs()] == [run.id]
    assert {r.id for r in experiment.get_runs(include_children=True)} == {run.id, *ids}
    assert {r.id for r in Run.list(experiment, include_children=True, status="NotStarted")} == {
        third.id
    }
    with pytest.raises(ConfigError, match="no type of runs 'Interactive'"):
        experiment.get_runs(type="Interactive")
    with pytest.raises(ConfigError, match="no status 'Running '"):
        list(experiment.get_runs(status="Running "))


def test_children_that_are_refused(experiment: Experiment) -> None:
    run = experiment.start_logging(snapshot_directory=None)
    with pytest.raises(ValueError, match="one call makes 0 to 100"):
        run.create_children(101)
    with pytest.raises(ValueError, match="either count"):
        run.create_children()
    with pytest.raises(ValueError, match="no run id of experiment 'notes'"):
        run.child_run(run_id="other_1700000000_0123abcd")
    given = run.child_run(run_id="notes_1700000000_0123abcd")
    assert given.id == "notes_1700000000_0123abcd"
    with pytest.raises(HpcrunError, match="cannot make run notes_1700000000_0123abcd"):
        run.child_run(run_id="notes_1700000000_0123abcd")
    assert len(list(run.get_children())) == 1
    given.complete()
    run.complete()


def test_a_silent_child_is_lost_with_the_run_that_made_it(experiment: Experiment) -> None:
    code = "parent = experiment.start_logging()\nrun = parent.child_run()\nrun.log('x', 1)"
    left_alone(experiment, code)
    (child,) = (run for run in experiment.get_runs(include_children=True) if run.parent)
    parent = child.parent
    assert parent is not None and child.get_status() == "Running"
    seen_long_ago(child)
    assert child.get_status() == "NotResponding"
    parent.complete()
    seen_long_ago(child)
    assert child.get_status() == "Failed"
    verdict = child.record().verdict
    assert verdict is not None and "the run that made it has ended" in verdict.sentence


IN_A_JOB = """
from hpcrun import Run
run = Run.get_context()
run.log("a", 1)
for fold in range(3):
    with run.child_run(f"fold {fold}") as child:
        child.log("a", fold)
        child.tag("fold", fold)
waiting = run.create_children(2)
print(sorted(len(m) for m in run.get_metrics(recursive=True).values()))
"""


def test_children_of_a_job(experiment: Experiment, notebook: Path) -> None:
    run = experiment.submit(script_of(IN_A_JOB, notebook))
    run.wait_for_completion(wait_post_processing=True)
    log = run.get_details_with_logs()["logFiles"]["user_logs/1.0/rank-0.log"]
    assert log == "[0, 0, 1, 1, 1, 1]\n"
    children = list(run.get_children())
    assert [c.get_status() for c in children] == ["NotStarted"] * 2 + ["Completed"] * 3
    assert [c.display_name for c in children[2:]] == ["fold 2", "fold 1", "fold 0"]
    found: Any = run.get_metrics("a", recursive=True)
    assert [found[c.id] for c in children[2:]] == [{"a": 2}, {"a": 1}, {"a": 0}]
    assert children[-1].tags == {"fold": "0"}
    eventually(lambda: not companions())


def test_a_child_that_is_submitted(experiment: Experiment, notebook: Path) -> None:
    parent = experiment.start_logging(snapshot_directory=None)
    child = parent.submit_child(script_of("print(1)", notebook), tags={"a": "b"})
    assert child.wait_for_completion(wait_post_processing=True)["status"] == "Completed"
    parent.complete()
    assert [c.id for c in parent.get_children(type="azureml.scriptrun")] == [child.id]
    found = child.parent
    assert found is not None and (found.id, child.tags) == (parent.id, {"a": "b"})


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A run's folders where a workspace has them."""
    root = tmp_path / "users/someone"
    for folder in (root / "files", root / "active/digits_1700000000_0123abcd"):
        folder.mkdir(parents=True)
    return Job(root)


@pytest.mark.parametrize("version", VERSIONS)
def test_children_need_nothing_but_python(job: Job, version: str) -> None:
    executable = interpreter(version)
    if executable is None:
        pytest.skip(f"no Python {version} on this machine")
    record = job.root / "active/digits_1700000000_0123abcd"
    code = "from hpcrun.metrics import Run\nrun = Run.get_context()\n"
    code += "with run.child_run('c') as child:\n    child.log('x', 1)\nprint(child.id)"
    child = job.python(code, python=executable, HPCRUN_RECORD=str(record)).stdout.strip()
    facts = job.facts(job.root / "active" / child, kind=JournalKind.FACTS)
    assert {"started", "running", "heartbeat", "ended"} <= {f.kind for f in facts}
    assert [f.data["v"] for f in job.facts(job.root / "active" / child)] == [1]
    request = json.loads((job.root / "active" / child / "run.json").read_text())
    assert (request["parent"], request["user"]) == ("digits_1700000000_0123abcd", "someone")


def test_other_ranks_make_no_children(job: Job) -> None:
    record = job.root / "active/digits_1700000000_0123abcd"
    code = "from hpcrun.metrics import Run\nrun = Run.get_context()\n"
    code += "with run.child_run() as child:\n    child.log('x', 1)\nrun.create_children(2)"
    job.python(code, HPCRUN_RECORD=str(record), RANK="1", WORLD_SIZE="2")
    assert os.listdir(job.root / "active") == ["digits_1700000000_0123abcd"]


def test_children_of_an_offline_run(notebook: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("HPCRUN_")}
    code = "from hpcrun.metrics import Run\nrun = Run.get_context()\nrun.log('x', 0)\n"
    code += "with run.child_run() as child:\n    child.log('x', 1)\n"
    code += "print(run.get_metrics(recursive=True) == {run.id: {'x': 0}, child.id: {'x': 1}})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert len(list((notebook / ".hpcrun/offline").iterdir())) == 2


def test_cancel_reaches_the_children(notebook: Path, experiment: Experiment) -> None:
    with experiment.start_logging(outputs=False, snapshot_directory=None) as parent:
        child = parent.submit_child(script_of("import time; time.sleep(60)", notebook))
        below = parent.child_run("below")
        over = parent.child_run("over")
        over.complete()
    told = cancel(experiment.workspace.session, parent.record())
    assert [record.run_id for record in told] == [parent.id, child.id, below.id, over.id]
    child.wait_for_completion(wait_post_processing=True)
    assert (parent.get_status(), child.get_status()) == ("Completed", "Canceled")
    assert (below.get_status(), over.get_status()) == ("Canceled", "Completed")


def test_a_child_that_nobody_began_has_failed_with_its_parents_end(experiment: Experiment) -> None:
    parent = experiment.start_logging(outputs=False, snapshot_directory=None)
    (child,) = parent.create_children(1)
    child = Run.get(experiment.workspace, child.id)
    assert child.get_status() == "NotStarted"
    seen_long_ago(child)
    assert child.get_status() == "NotStarted"  # it may begin yet
    parent.complete()
    assert child.get_status() == "Failed"
    verdict = child.record().verdict
    assert verdict is not None and verdict.sentence.startswith("nothing was ever told of it")
