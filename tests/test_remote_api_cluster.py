"""The Python API from a laptop: a program there, over one connection, and what a cut does to it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.far import Far
from tests.lab import WAITING, Lab, eventually
from tests.test_remote_submit_cluster import CUT_ONCE, DOWN, UP, jobs, new_id

pytestmark = pytest.mark.cluster

TRAIN = """\
import pathlib, sys, time
from hpcrun import Run

run = Run.get_context()
for step in range(5):
    run.log("loss", 1 / (step + 1), step=step)
run.log_table("table", {"x": [1, 2], "y": [0.5, None]})
run.tag("kind", "baseline")
pathlib.Path("dot.gif").write_bytes(b"GIF87a" + bytes(range(64)))
run.log_image("dot", path="dot.gif")
with run.child_run("fold") as child:
    child.log("score", 7)
for name in ("model", "deep/weights"):
    pathlib.Path("outputs", name).parent.mkdir(exist_ok=True)
    pathlib.Path("outputs", name).write_text(name)
stop = pathlib.Path(sys.argv[1])
number = 0
while True:
    print("line", number, flush=True)
    number += 1
    if stop.exists():
        break
    time.sleep(0.1)
"""

BEGIN = """\
import json, os, pickle, signal, sys, threading, time
from pathlib import Path
from hpcrun import Experiment, Resources, Run, ScriptRunConfig, Workspace
from hpcrun.errors import ConfigError, CutSubmission, ForeignRun, RunNotFound, TransportError

def asked(stop, **more):
    return ScriptRunConfig(
        "code", "train.py", [stop], compute_target="test-cluster",
        resources=Resources(time="10m"), **more,
    )

def until(holds):
    while not (found := holds()):
        time.sleep(0.1)
    return found

def refused(kind, act):
    try:
        act()
    except kind as error:
        return str(error)
    raise AssertionError(kind)

"""

LINE = (
    BEGIN
    + """\
with Workspace(sys.argv[1]) as workspace:
    stop, others = Path(sys.argv[2]), sys.argv[3]
    experiment = Experiment(workspace, sys.argv[4])
    run = experiment.submit(asked(str(stop), display_name="first"), {"by": "laptop"})
    until(lambda: run.get_status() == "Running")
    until(lambda: len(run.get_metrics()) == 3)
    run.tag("seen", 1)
    run.add_properties({"of": "lena"})
    run.log("from outside", 0.25)
    told = {"id": run.id, "mirror": str(workspace.path)}
    told |= {"tags": dict(run.get_tags()), "properties": dict(run.get_properties())}
    told["files"] = [file.name for file in run.get_files()]
    run.download_file("outputs/model", "copies/")
    run.download_files("outputs/", "below")
    told["refused"] = [
        refused(ConfigError, act)
        for act in (
            experiment.start_logging,
            lambda: run.upload_file("a", "notebook.py"),
            lambda: run.register_model("a"),
            lambda: workspace.environments,
            run.restore_snapshot,
        )
    ]
    (child,) = run.get_children()
    told["child"] = child.get_metrics()
    # A worker is forked while another thread asks.
    came, goes = os.pipe()
    busy, free = threading.Event(), threading.Event()

    def hold():
        with workspace.side.session.line.held():
            busy.set()
            free.wait()

    other = threading.Thread(target=hold)
    other.start()
    busy.wait()
    if (worker := os.fork()) == 0:
        signal.alarm(60)
        copy = pickle.loads(pickle.dumps(run))
        os.write(goes, json.dumps([copy.id, len([*experiment.get_runs()])]).encode())
        sys.exit()
    os.close(goes)
    os.waitpid(worker, 0)
    free.set()
    other.join()
    told["worker"] = json.loads(os.read(came, 1000))
    print(json.dumps(told), flush=True)
    run.wait_for_completion(show_output=True)
    told = {"status": run.get_status(), "metrics": run.get_metrics(), "name": run.display_name}
    told["frame"] = {n: c.tolist() for n, c in run.get_metric_columns("loss").items()}
    told["details"] = run.get_details()
    told["logs"] = sum(map(len, run.get_details_with_logs()["logFiles"].values()))
    told["all logs"] = [str(path) for path in run.get_all_logs("logs-here")]
    told["image"] = len(run.get_metrics("dot", populate=True)["dot"])

    second = run.submit_child(asked("/none"))
    family = experiment.get_runs(include_children=True)
    listed = {each.id: each.get_status() for each in family}
    told["parent"] = second.parent.id
    told["listed"] = [each for each in listed if each in (run.id, second.id)]
    told["newest"] = Run.get(workspace, "@last").experiment_name
    told["by tag"] = [each.id for each in experiment.get_runs(tags={"seen": "1"})]
    second.cancel()
    second.wait_for_completion(wait_post_processing=True)
    told["second"] = second.get_status()
    run.resubmit()
    run.wait_for_completion(wait_post_processing=True)
    told["attempts"] = len(run.record().attempts)
    experiment.tag("of", "lena")
    told["experiments"] = dict(workspace.experiments[experiment.name].tags)
    run.archive()
    told["archived"] = [each.id for each in experiment.get_runs(view_type="ArchivedOnly")]
    told["deleted"] = [each.record.run_id for each in second.delete().runs]
    told["gone"] = refused(RunNotFound, second.get_status)

    other = Run.get(workspace, others)
    told["bob's"] = [other.record().user, other.get_status(), other.get_metrics()["loss"]]
    told["foreign"] = refused(ForeignRun, lambda: other.tag("mine"))
    print(json.dumps(told), flush=True)
"""
)


@pytest.fixture
def stop(lab: Lab) -> Iterator[Path]:
    """The file that ends the runs of a test."""
    file = lab.cluster.shared / "stop-api"
    file.unlink(missing_ok=True)
    yield file
    file.touch()


def program(far: Far, text: str) -> Path:
    """A folder of lena's with a program and the code that it submits."""
    far.site("one", more="multiplex: allowed")
    return far.project("notebook", {"notebook.py": text, "code/train.py": TRAIN})


def words(far: Far, *more: str, site: str = "one") -> list[str]:
    return [far.lab.python, "notebook.py", f"{site}:{far.lab.workspace}", *more]


def test_all_of_a_run_over_one_connection(far: Far, lab: Lab, stop: Path) -> None:
    others = submitted_by_bob(lab)
    folder, before = program(far, LINE), far.logins()
    experiment = new_id().replace("_", "-")
    asked = words(far, str(stop), f"bob/{others}", experiment)
    with far.laptop.popen(asked, cwd=folder) as notebook:
        assert notebook.stdout is not None
        first: Any = json.loads(notebook.stdout.readline() or "{}")
        lab.wait(others, user="bob")
        stop.touch()
        out, err = notebook.communicate(timeout=300)
    assert notebook.returncode == 0, (first, out, err)
    # The worker has a connection of its own: two cannot speak on one.
    assert first["worker"] == [first["id"], 1]
    assert far.logins() == before + 2
    assert not [line for line in err.splitlines() if not line.startswith(WAITING)]
    eventually(lambda: far.served() == "")
    assert first["tags"] == {"by": "laptop", "kind": "baseline", "seen": "1"}
    assert first["properties"]["of"] == "lena"
    names = ["outputs/deep/weights", "outputs/model", "user_logs/1.0/rank-0.log"]
    assert [*filter(names.__contains__, first["files"])] == names
    assert (folder / "copies/model").read_text() == "model"
    assert (folder / "below/outputs/deep/weights").read_text() == "deep/weights"
    assert first["child"] == {"score": 7}
    for told in first["refused"]:
        assert " is for the machine where the workspace one:" in told
    text, _, last = out[:-1].rpartition("\n")
    numbers = [int(line.split()[1]) for line in text.splitlines() if line.startswith("line ")]
    assert numbers == [*range(len(numbers))]
    told = json.loads(last)
    run_id = first["id"]
    assert (told["status"], told["name"]) == ("Completed", "first")
    image = told["metrics"].pop("dot")
    assert image.startswith("images/dot-") and told["image"] == 70
    loss = [1 / (step + 1) for step in range(5)]
    table = {"x": [1, 2], "y": [0.5, None]}
    assert told["metrics"] == {"from outside": 0.25, "loss": loss, "table": table}
    assert (told["frame"]["step"], told["frame"]["loss"]) == ([*range(5)], loss)
    details = told["details"]
    assert (details["runId"], details["submittedBy"]) == (run_id, "alice")
    assert details["target"] == "test-cluster/main" and told["logs"] > 0
    assert "logs-here/user_logs/1.0/rank-0.log" in told["all logs"]
    assert (folder / "logs-here/user_logs/1.0/rank-0.log").read_text().startswith("line 0\n")
    assert told["listed"][1:] == told["by tag"] == told["archived"] == [run_id]
    assert (told["second"], told["attempts"], told["parent"]) == ("Canceled", 2, run_id)
    assert told["experiments"] == {"of": "lena"}
    assert told["listed"][0] in told["deleted"] and told["listed"][0] in told["gone"]
    assert told["bob's"] == ["bob", "Completed", loss]
    assert told["foreign"].startswith(f"run {others} is bob's")
    assert lab.run("show", told["listed"][0]).returncode == 9
    # What was read can be read without the cluster.
    far.laptop.link(False)
    mirror = first["mirror"]
    done = far.laptop.run([f"{lab.venv}/bin/hpcrun", "-w", mirror, "metrics", "--json", run_id])
    assert json.loads(done.stdout).keys() == {"dot", "from outside", "loss", "table"}


def submitted_by_bob(lab: Lab) -> str:
    """The id of a run of bob's that ends soon."""
    stop = lab.cluster.shared / "stop-bob"
    stop.touch()
    yaml = f"script: train.py\narguments: [{stop}]\ncompute_target: test-cluster\n"
    code = lab.folder("api", {"run.yaml": yaml, "train.py": TRAIN}, "bob")
    return lab.submit(code, user="bob")


FOLLOW = (
    BEGIN
    + """workspace = Workspace(sys.argv[1])
experiment = Experiment(workspace, sys.argv[4])
run = experiment.submit(asked(sys.argv[2]))
run.wait_for_completion(show_output=True)
print(json.dumps(run.get_metrics()["loss"]))
"""
)

ASK = (
    BEGIN
    + """os.environ["HPCRUN_WORKSPACE"] = sys.argv[1]
workspace = Workspace.from_config()
run = Run.get(workspace, "@last")
until(lambda: len(run.get_metrics()) == 3)
metrics = run.get_metrics()
print("asked", flush=True)
while True:
    try:
        run.get_status()
    except TransportError as error:
        print(json.dumps([str(error), error.transient, str(workspace.path)]), flush=True)
        break
    time.sleep(0.2)
sys.stdin.readline()
print(run.get_status(), run.get_metrics() == metrics, flush=True)
"""
)


def test_a_cut_is_told_or_waited_over(far: Far, lab: Lab, stop: Path) -> None:
    folder = program(far, FOLLOW)
    far.laptop.write("notebook/ask.py", ASK)
    asked = words(far, str(stop), "", new_id().replace("_", "-"))
    err = far.laptop.home / "err"
    with (
        err.open("w") as told,
        far.laptop.popen(asked, cwd=folder, stderr=told) as following,
    ):
        assert following.stdout is not None
        shown = iter(following.stdout.readline, "")
        before = next(line for line in shown if line.startswith("line "))
        asking_words = [asked[0], "ask.py", *asked[2:]]
        with far.laptop.popen(asking_words, cwd=folder, stdin=subprocess.PIPE) as asking:
            assert asking.stdout is not None and asking.stdin is not None
            assert asking.stdout.readline() == "asked\n"
            far.laptop.link(False)
            message, is_transient, mirror = json.loads(asking.stdout.readline())
            assert message.startswith("the connection to one is lost") and is_transient
            assert f"Workspace({mirror!r}) reads what has come" in message
            eventually(lambda: "; it is tried again" in err.read_text())
            far.laptop.link(True)
            out, _ = asking.communicate("\n", timeout=180)
            assert out == "Running True\n" and asking.returncode == 0
        stop.touch()
        lines = [before, *shown]
        assert following.wait(180) == 0, err.read_text()
    numbers = [int(line.split()[1]) for line in lines if line.startswith("line ")]
    assert numbers == [*range(len(numbers))]
    assert json.loads(lines[-1]) == [1 / (step + 1) for step in range(5)]
    assert err.read_text().count("tried again") == 1


SUBMIT = (
    BEGIN
    + """import gc, subprocess

def submitted():
    experiment = Experiment(Workspace(sys.argv[1]), "sent")
    try:
        run = experiment.submit(asked(sys.argv[2]), run_id=sys.argv[4])
        return [run.id, run.record().job_id]
    except CutSubmission as error:
        return [error.run_id, str(error)]

told = submitted()
gc.collect()
ssh = ["pgrep", "-x", "-P", str(os.getpid()), "ssh"]
print(json.dumps([*told, subprocess.run(ssh, capture_output=True, text=True).stdout]))
"""
)


@pytest.mark.parametrize(
    ("cut", "count"),
    ids=["never arrives", "is never told"],
    argvalues=[(UP.format("""sed -u '/"submit"/Q'"""), 0), (DOWN.format("sed -u '/job_id/Q'"), 1)],
)
def test_a_submission_that_is_cut_is_one_job_or_none(
    far: Far, lab: Lab, stop: Path, cut: str, count: int
) -> None:
    stop.touch()
    folder, run_id = program(far, SUBMIT), new_id()
    env = far.in_front_of_ssh(CUT_ONCE.format(cut=cut))
    asked = words(far, str(stop), "", run_id, site="far")
    done = far.laptop.run(asked, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    assert f"it is asked what became of run {run_id}" in done.stderr
    eventually(lambda: not far.served())
    there = jobs(lab, run_id)
    told = json.loads(done.stdout)
    assert len(there) == count and told[0] == run_id
    assert told[2] == ""  # the connection has ended with its workspace
    if count:
        assert told[1] == there[0]
    else:
        assert told[1] == f"the submission was cut: there is no run {run_id} (submit again)"
