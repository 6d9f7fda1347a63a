"""Independent tasks on the real cluster: one job array, a run for each task."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun.layout import task_ids
from tests.lab import Lab, eventually
from tests.submission import Place, make_place

pytestmark = pytest.mark.cluster

# Each run of user code leaves a line; task 1 waits, 2 fails, 4 asks for a requeue once.
TRAIN = """\
import os, pathlib, sys, time
ran, index, count = sys.argv[1], sys.argv[2], sys.argv[3]
assert (index, count) == (os.environ["HPCRUN_TASK_INDEX"], os.environ["HPCRUN_TASK_COUNT"])
file = pathlib.Path(ran, os.environ["HPCRUN_RUN_ID"])
again = file.exists()
with file.open("a") as lines:
    lines.write(f"{index} {os.environ['HPCRUN_JOB_ID']} {os.uname().nodename}\\n")
pathlib.Path("outputs", "index.txt").write_text(index)
if index == "1":
    time.sleep(600)
sys.exit({"2": 3, "4": 0 if again else 42}.get(index, 0))
"""

RUN_YAML = """\
script: train.py
arguments: [{ran}, "${{{{task_index}}}}", "${{{{task_count}}}}"]
compute_target: test-cluster
experiment: {name}
resources: {{time: 5m, exclusive: true}}
distributed_job_config: {{kind: parallel_task, task_count: 8}}
"""


@pytest.fixture
def place(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Place]:
    with make_place(lab, request.node.name) as place:
        (place.source / "train.py").write_text(TRAIN)
        text = RUN_YAML.format(ran=place.source / "ran", name=place.experiment)
        (place.source / "run.yaml").write_text(text)
        yield place


def tasks_of(place: Place, parent: str) -> list[dict[str, Any]]:
    """The runs of the tasks, by their numbers."""
    runs = place.json("list", "--children", "-n", "0")
    found = [run for run in runs if run["parent"] == parent]
    return sorted(found, key=lambda run: int(run["run_id"].rsplit("_", 1)[1], 16))


def ran(place: Place, task: dict[str, Any]) -> list[list[str]]:
    path = place.source / "ran" / task["run_id"]
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_each_task_is_a_run(place: Place) -> None:
    parent = place.json("submit")["run_id"]
    tasks = tasks_of(place, parent)
    assert len(tasks) == 8
    array = tasks[0]["job_id"].partition("_")[0]
    assert [task["job_id"] for task in tasks] == [f"{array}_{n}" for n in range(8)]
    assert list(place.runs()) == [parent]

    eventually(lambda: ran(place, tasks[1]))
    assert place.json("show", parent)["status"] == "Running"
    assert place.run("cancel", tasks[1]["run_id"]).returncode == 0
    told = place.lab.wait(parent, env={"HPCRUN_WORKSPACE": str(place.workspace)})
    tasks = tasks_of(place, parent)
    ends = [(task["status"], task["verdict"]["cause"]) for task in tasks]
    good = ("Completed", "completed")
    bad, ended = ("Failed", "exit_code"), ("Canceled", "canceled")
    assert ends == [good, ended, bad, good, good, good, good, good]
    assert told["status"] == "Failed"
    sentence = told["verdict"]["sentence"]
    assert sentence.startswith("1 of 8 tasks has failed, 1 of 8 tasks has been canceled; the first")
    assert f"task 2, run {tasks[2]['run_id']}" in sentence and "exit code 3" in sentence
    assert "canceled by alice" in tasks[1]["verdict"]["sentence"]

    lives = [2 if number == 4 else 1 for number in range(8)]
    for number, task in enumerate(tasks):
        lines = ran(place, task)
        assert [line[:2] for line in lines] == [[str(number), task["job_id"]]] * lives[number]
        assert Path(task["files"], "outputs/index.txt").read_text() == str(number)
    assert len({line[2] for task in tasks for line in ran(place, task)}) > 1
    assert len(place.json("show", tasks[4]["run_id"])["attempts"]) == 2

    # A task can be submitted again by itself, and the run that it is of goes on with it.
    assert place.run("resubmit", tasks[2]["run_id"]).returncode == 0
    told = place.lab.wait(parent, env={"HPCRUN_WORKSPACE": str(place.workspace)})
    again = place.json("show", tasks[2]["run_id"])
    assert again["job_id"].isdecimal() and len(ran(place, tasks[2])) == 2
    assert told["status"] == "Failed" and len(place.json("show", parent)["attempts"]) == 2
    assert place.run("resubmit", parent).returncode != 0


# sbatch that works twice, and kills its client the second time.
CUT = """\
mkdir {workspace}/once 2>/dev/null && exec /usr/bin/sbatch "$@"
/usr/bin/sbatch "$@"; kill -9 $PPID
"""

SMALL = """\
inherits: [test-cluster]
scheduler: {max_array_size: 3}
"""


def test_a_cut_submission_leaves_one_job_for_each_task_or_none(place: Place) -> None:
    sites = place.source / ".hpcrun/site_configs"
    sites.mkdir(parents=True)
    (sites / "test-cluster.yaml").write_text(SMALL)
    (place.source / "train.py").write_text(TRAIN.replace("sys.exit", "print").replace("600", "0"))
    done = place.run(
        *("submit", "--set", "distributed_job_config.max_parallel=7"),
        bin=place.script("sbatch", CUT.format(workspace=place.workspace)),
    )
    assert done.returncode == -signal.SIGKILL, (done.stdout, done.stderr)
    ((parent, _),) = place.runs().items()
    told = place.lab.wait(parent, env={"HPCRUN_WORKSPACE": str(place.workspace)})
    tasks = tasks_of(place, parent)
    assert [task["status"] for task in tasks] == ["Completed"] * 6
    assert told["status"] == "Failed"
    assert told["verdict"]["sentence"].startswith("2 of 8 are not there: never submitted")
    arrays = place.jobs()
    elements = [job for name in sorted(arrays) for job in sorted(arrays[name])]
    assert [task["job_id"] for task in tasks] == elements

    done = place.run("submit", bin=place.script("sbatch", "kill -9 $PPID\n"))
    assert done.returncode == -signal.SIGKILL
    (other,) = set(place.runs()) - {parent}
    told = place.lab.wait(other, env={"HPCRUN_WORKSPACE": str(place.workspace)})
    lost = tasks_of(place, other)
    assert told["verdict"]["sentence"].startswith("3 of 8 tasks have failed, 5 of 8 are not")
    assert {task["verdict"]["cause"] for task in lost} == {"submit_failed"}

    # Should an array come all the same, its tasks do not run; nor does any run twice.
    for run_id in (other, parent):
        script = str(place.active / run_id / "script.sh")
        words = ["sbatch", "--wait", f"--output={place.source}/by-hand.log", "--array=0-1"]
        place.lab.cluster.run("alice", [*words, script], cwd=place.source)
    assert [len(ran(place, task)) for task in [*tasks, *lost]] == [1] * 6 + [0] * 3


def test_all_tasks_are_canceled_at_once(place: Place) -> None:
    (place.source / "train.py").write_text(TRAIN.replace('index == "1"', "True"))
    at_once = "distributed_job_config.max_parallel=2"
    parent = place.json("submit", "--set", at_once)["run_id"]
    tasks = tasks_of(place, parent)
    eventually(lambda: ran(place, tasks[0]) and ran(place, tasks[1]))
    assert place.run("cancel", parent).returncode == 0
    told = place.lab.wait(parent, env={"HPCRUN_WORKSPACE": str(place.workspace)})
    assert (told["status"], told["verdict"]["cause"]) == ("Canceled", "canceled")
    assert told["verdict"]["sentence"].startswith("8 of 8 tasks have been canceled; the first")
    for task in tasks_of(place, parent):
        assert "canceled by alice" in task["verdict"]["sentence"]
    assert [len(ran(place, task)) for task in tasks] == [1, 1] + [0] * 6


WITH_DATA = """\
import os, pathlib, sys, tempfile, time
words, made = map(pathlib.Path, sys.argv[1:])
(made / "same").write_text(os.environ["HPCRUN_TASK_INDEX"] + words.read_text())
meeting = pathlib.Path(tempfile.gettempdir(), "tasks-that-meet")
meeting.mkdir(exist_ok=True)
(meeting / os.environ["HPCRUN_RUN_ID"]).touch()
while len([*meeting.iterdir()]) < 2:
    time.sleep(0.05)
words.unlink()
"""


def test_tasks_on_one_node_have_each_their_own_data(lab: Lab) -> None:
    data = lab.folder("tasks-data", {"words": " words"})
    request = {
        "script": "train.py",
        "arguments": ["${{inputs.words}}", "${{outputs.made}}"],
        "compute_target": "test-cluster",
        "experiment": "tasks-with-data",
        "inputs": {"words": {"path": str(data / "words"), "mode": "stage"}},
        "outputs": {"made": f"{data}/made/{{run-id}}"},
        "resources": {"time": "5m", "memory": "500M"},
        "distributed_job_config": {"kind": "parallel_task", "task_count": 2},
        "sbatch": {"nodelist": "n1"},
    }
    files = {"train.py": WITH_DATA, "run.yaml": json.dumps(request)}
    run = lab.json("submit", cwd=lab.folder("tasks-with-data", files))
    done = lab.wait(run["run_id"])
    assert done["status"] == "Completed", done["verdict"]
    made = {path.parent.name: path.read_text() for path in (data / "made").glob("*/same")}
    assert made == {
        run_id: f"{index} words" for index, run_id in enumerate(task_ids(run["run_id"], 2))
    }
