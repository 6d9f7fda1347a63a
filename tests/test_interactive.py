"""Interactive runs and children: real processes, their companions, and what survives them."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, HpcrunError, Run, Workspace
from hpcrun.errors import ConfigError, StoreError
from hpcrun.layout import JournalKind
from hpcrun.metrics.interactive import spool_of
from hpcrun.record import Fact, decode_page
from hpcrun.state import Cause, State
from hpcrun.workflow.cancel import cancel
from hpcrun.workflow.collect import collect
from hpcrun.workflow.liveness import SILENCE
from tests.commands import script_of
from tests.lab import eventually
from tests.metrics_job import PACKAGE, VERSIONS, Job, interpreter

PNG = b"\x89PNG\r\n\x1a\n..."


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a source, and a workspace of its own."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "notebook.py").write_text("words")
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "history"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(Workspace.from_config(), "notes")


def python(code: str, status: int | None = 0) -> subprocess.CompletedProcess[str]:
    """An interpreter of its own that runs the code to its end."""
    words = [sys.executable, "-W", "error", "-c", BEGIN + code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert status is None or done.returncode == status, (done.stdout, done.stderr)
    return done


BEGIN = """
import os, signal, sys
from hpcrun import Experiment, Workspace
experiment = Experiment(Workspace.from_config(), "notes")
"""


def newest(experiment: Experiment) -> Run:
    return next(experiment.get_runs(include_children=True))


def spool(run: Run) -> Path:
    return Path(f"{spool_of(run.id)}-1.0")


def companions() -> list[int]:
    """The companions that run on this machine, of runs of this test."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes()
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"agent.companion" in words and os.environ["TMPDIR"].encode() in environ:
            found.append(int(entry.name))
    return found


# -- the life of an interactive run ---------------------------------------------------------------


def test_a_run_in_a_with_statement(experiment: Experiment, here: Path) -> None:
    (here / "outputs").mkdir()
    (here / "plot.png").write_bytes(PNG)
    with experiment.start_logging(display_name="first") as run:
        assert run.get_status() == "Running"
        run.log("loss", 0.5, step=0)
        run.log_image("plot", "plot.png")
        run.tag("kind", "x")
        (here / "outputs/model.txt").write_text("half a model")
        run.upload_file("outputs/model.txt", "outputs/model.txt")
        (here / "outputs/model.txt").write_text("model")
        assert run.get_metrics("loss") == {"loss": 0.5}
        assert run.output_directory == str(here / "outputs")
    found = Run.get(experiment.workspace, run.id)
    record = found.record()
    assert (record.state, record.display_name, record.tags) == (
        State.COMPLETED,
        "first",
        {"kind": "x"},
    )
    assert (found.type, record.target, record.job_id) == ("interactive", "interactive", None)
    assert record.verdict is not None and record.verdict.sentence == "the script completed the run"
    assert found.get_metrics(populate=True) == {"loss": 0.5, "plot": PNG}
    assert [f.name for f in found.get_files() if f.sha256] == [
        found.get_metrics("plot")["plot"],
        "outputs/model.txt",
    ]
    assert Path(found.paths.outputs, "model.txt").read_text() == "model"
    assert found.get_files()[1].sha256 == hashlib.sha256(b"model").hexdigest()
    assert found.restore_snapshot(path=here / "zip").name == f"{found.get_snapshot_id()}.zip"
    assert found.get_details()["status"] == found.wait_for_completion()["status"] == "Completed"
    # complete() has waited for the companion: where a job ends, it is killed at once.
    assert not record.attempt.undrained and not spool(found).exists()
    assert (record.problems, record.lost_records, record.bad_lines) == ((), 0, 0)


def test_what_cannot_be_collected_keeps_nothing_else_from_it(
    experiment: Experiment, here: Path
) -> None:
    """A pipe is no file, a link outside leads to what is not the run's, a name that stands there
    holds another file: the rest comes."""
    outputs = here / "outputs"
    outputs.mkdir()
    for name in ("a", "taken", "z"):
        (outputs / name).write_text(name)
    os.mkfifo(outputs / "pipe")
    for name, target in {"inside": "a", "lost": "nowhere", "outside": "../notebook.py"}.items():
        (outputs / name).symlink_to(target)
    with experiment.start_logging(snapshot_directory=None) as run:
        run.upload_file("outputs/taken/file", here / "notebook.py")
    found = Run.get(experiment.workspace, run.id)
    names = ["outputs/a", "outputs/inside", "outputs/taken/file", "outputs/z"]
    assert found.get_file_names() == names
    assert not Path(found.paths.outputs, "inside").is_symlink()
    (problem,) = found.record().problems
    assert problem.startswith(f"1 outputs in {outputs} were not collected: ")
    assert "outputs/taken" in problem


def test_a_run_without_snapshot_and_outputs(experiment: Experiment, here: Path) -> None:
    (here / "outputs").mkdir()
    (here / "outputs/model.txt").write_text("model")
    run = experiment.start_logging(outputs=False, snapshot_directory=None)
    run.complete()
    run.complete()
    run.fail("too late")
    assert (run.get_status(), run.get_file_names()) == ("Completed", [])
    with pytest.raises(StoreError, match="has no snapshot"):
        run.get_snapshot_id()
    with pytest.raises(StoreError, match="has no snapshot"):
        run.restore_snapshot()
    with pytest.raises(StoreError, match="has no environment"):
        run.get_environment()


@pytest.mark.parametrize(
    ("body", "state", "sentence", "status"),
    [
        ("raise ValueError('bad column')", "Failed", "ValueError('bad column')", 1),
        ("raise KeyboardInterrupt", "Canceled", "the run was canceled by ", None),
        ("sys.exit(0)", "Completed", "the script completed the run", 0),
        ("sys.exit(3)", "Failed", "SystemExit(3)", 3),
        ("run.fail('disk', 'E1')", "Failed", "E1: disk", 0),
        ("run.cancel()", "Canceled", "the run was canceled by ", 0),
    ],
)
def test_how_a_with_statement_ends(
    experiment: Experiment, body: str, state: str, sentence: str, status: int | None
) -> None:
    code = f"with experiment.start_logging() as run:\n    run.log('x', 1)\n    {body}\n"
    python(code, status)
    run = newest(experiment)
    verdict = run.record().verdict
    assert verdict is not None and verdict.sentence.startswith(sentence)
    assert (run.get_status(), run.get_metrics()) == (state, {"x": 1})


def test_an_interpreter_that_ends_without_a_word_has_failed(experiment: Experiment) -> None:
    done = python("run = experiment.start_logging()\nrun.log('x', 1)")
    assert done.stderr == ""
    run = newest(experiment)
    eventually(lambda: run.get_status() == "Failed")
    verdict = run.record().verdict
    assert verdict is not None and verdict.cause == Cause.LOST
    assert "without complete() or fail()" in verdict.sentence
    assert run.get_metrics() == {"x": 1}
    eventually(lambda: not companions())


def test_a_forked_process_that_lives_on_does_not_hide_the_interpreters_end(
    experiment: Experiment,
) -> None:
    code = "run = experiment.start_logging(snapshot_directory=None)\nrun.log('x', 1)\n"
    code += "import time\npid = os.fork()\nif pid == 0:\n    os.close(1), os.close(2)\n"
    code += "    time.sleep(100)\nprint(pid, flush=True)\nos.kill(os.getpid(), 9)"
    done = python(code, -signal.SIGKILL)
    try:
        eventually(lambda: newest(experiment).get_status() == "Failed")
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


ACKNOWLEDGING = """
run = experiment.start_logging(snapshot_directory=None)
number = 0
while True:
    run.log("x", number, step=number)
    os.write(1, b"%d\\n" % number)
    number += 1
"""


@pytest.mark.parametrize("seed", range(12))
def test_nothing_acknowledged_is_lost_when_the_interpreter_is_killed(
    experiment: Experiment, seed: int
) -> None:
    words = [sys.executable, "-c", BEGIN + ACKNOWLEDGING]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = process.stdout.readline()
    delay = random.Random(seed).uniform(0, 0.5)
    killer = threading.Timer(delay, process.send_signal, [signal.SIGKILL])
    killer.start()
    told += process.stdout.read()
    killer.join()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    acknowledged = len(told.split(b"\n")[:-1])
    run = newest(experiment)
    eventually(lambda: run.record().state.is_end and not run.record().attempt.undrained)
    verdict = run.record().verdict
    assert verdict is not None and verdict.cause == Cause.LOST
    values = run.get_metric_columns("x")["x"].tolist()
    assert values == list(range(len(values)))
    assert len(values) - acknowledged in (0, 1)
    assert (run.record().bad_lines, spool(run).exists()) == (0, False)


def seen_long_ago(run: Run) -> None:
    """This reader's last look at the run is as long ago as silence lasts."""
    file = Path(os.environ["XDG_CACHE_HOME"], "hpcrun/heartbeats.json")
    seen = {
        key: [count, when - SILENCE] for key, (count, when) in json.loads(file.read_text()).items()
    }
    assert f"{run.id}/1.0" in seen
    file.write_text(json.dumps(seen))


def left_alone(experiment: Experiment, code: str) -> Run:
    """A run whose interpreter and companion were killed at once, as by the loss of the machine."""
    end = "\nrun.flush()\nfrom hpcrun.metrics.companion import COMPANION\n"
    end += "run.log('late', 1)\nos.kill(COMPANION._process.pid, 19)\n"
    end += "run.log('x', 2)\nprint(COMPANION._process.pid, flush=True)\nos.kill(os.getpid(), 9)"
    done = python(code + end, -signal.SIGKILL)
    os.kill(int(done.stdout), signal.SIGKILL)
    return newest(experiment)


def test_a_silent_run_does_not_respond_until_somebody_cancels_it(experiment: Experiment) -> None:
    run = left_alone(experiment, "run = experiment.start_logging()\nrun.log('x', 1)")
    assert run.get_status() == "Running"  # it was not seen before
    assert run.get_status() == "Running"  # the count stands, but not for long
    seen_long_ago(run)
    assert run.get_status() == "NotResponding"
    assert spool(run).exists()
    run.cancel()
    verdict = run.record().verdict
    assert verdict is not None and "was canceled by" in verdict.sentence
    assert run.get_status() == "Canceled"
    assert any(
        "bytes of attempt 1.0 gathered" in line for line in collect(run._session, run.record())
    )
    assert run.get_metrics("x") == {"x": [1, 2]}
    assert not spool(run).exists()


@pytest.mark.parametrize(
    ("act", "state", "sentence"),
    [
        (lambda run: run.complete(), "Completed", " completed the run"),
        (lambda run: run.fail("disk", "E1"), "Failed", "E1: disk"),
        (lambda run: run.cancel(), "Canceled", "the run was canceled by "),
    ],
)
def test_an_interactive_run_can_be_ended_from_outside(
    experiment: Experiment, act: Callable[[Run], None], state: str, sentence: str
) -> None:
    with experiment.start_logging(snapshot_directory=None) as run:
        other = Run.get(experiment.workspace, run.id)
        act(other)
        assert other.get_status() == state
        run.log("x", 1)
    verdict = other.record().verdict
    assert verdict is not None and sentence in verdict.sentence
    other.complete()
    # What its process says afterwards does not change the end, and is not lost.
    assert (other.get_status(), other.get_metrics()) == (state, {"x": 1})


def test_a_companion_that_died_is_replaced(experiment: Experiment) -> None:
    from hpcrun.metrics.companion import COMPANION

    run = experiment.start_logging(snapshot_directory=None)
    run.log("x", 1)
    run.flush()
    assert COMPANION._process is not None
    COMPANION._process.kill()
    COMPANION._process.wait()
    run.log("x", 2)
    run.complete()
    assert (run.get_status(), run.get_metrics()) == ("Completed", {"x": [1, 2]})
    eventually(lambda: not run.record().attempt.undrained)


def test_no_log_call_waits_for_the_record(experiment: Experiment) -> None:
    run = experiment.start_logging(snapshot_directory=None)
    run.flush()
    aside = Path(run.paths.record).with_name("aside")
    Path(run.paths.record).rename(aside)
    run.log("x", 1)
    aside.rename(run.paths.record)
    run.complete()
    assert run.get_metrics() == {"x": 1}


# -- children -------------------------------------------------------------------------------------


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


def test_children_of_a_job(experiment: Experiment, here: Path) -> None:
    run = experiment.submit(script_of(IN_A_JOB, here))
    run.wait_for_completion()
    log = run.get_details_with_logs()["logFiles"]["user_logs/1.0/rank-0.log"]
    assert log == "[0, 0, 1, 1, 1, 1]\n"
    children = list(run.get_children())
    assert [c.get_status() for c in children] == ["NotStarted"] * 2 + ["Completed"] * 3
    assert [c.display_name for c in children[2:]] == ["fold 2", "fold 1", "fold 0"]
    found: Any = run.get_metrics("a", recursive=True)
    assert [found[c.id] for c in children[2:]] == [{"a": 2}, {"a": 1}, {"a": 0}]
    assert children[-1].tags == {"fold": "0"}
    eventually(lambda: not companions())


def test_a_child_that_is_submitted(experiment: Experiment, here: Path) -> None:
    parent = experiment.start_logging(snapshot_directory=None)
    child = parent.submit_child(script_of("print(1)", here), tags={"a": "b"})
    assert child.wait_for_completion()["status"] == "Completed"
    parent.complete()
    assert [c.id for c in parent.get_children(type="azureml.scriptrun")] == [child.id]
    found = child.parent
    assert found is not None and (found.id, child.tags) == (parent.id, {"a": "b"})


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """A run's folders where a workspace has them."""
    root = tmp_path / "users/someone"
    for folder in (root / "files", root / "active/digits_1700000000_0123abcd"):
        folder.mkdir(parents=True)
    yield Job(root)


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


def test_children_of_an_offline_run(here: Path) -> None:
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
    assert len(list((here / ".hpcrun/offline").iterdir())) == 2


def test_cancel_reaches_the_children(here: Path, experiment: Experiment) -> None:
    with experiment.start_logging(outputs=False, snapshot_directory=None) as parent:
        child = parent.submit_child(script_of("import time; time.sleep(60)", here))
        below = parent.child_run("below")
        over = parent.child_run("over")
        over.complete()
    told = cancel(experiment.workspace.session, parent.record())
    assert [record.run_id for record in told] == [parent.id, child.id, below.id, over.id]
    child.wait_for_completion(timeout_seconds=30)
    assert (parent.get_status(), child.get_status()) == ("Completed", "Canceled")
    assert (below.get_status(), over.get_status()) == ("Canceled", "Completed")


def test_what_is_told_after_the_end_is_there_at_once_and_outlives_a_kill(
    experiment: Experiment,
) -> None:
    code = (
        "run = experiment.start_logging(outputs=False, snapshot_directory=None)\n"
        "run.log('acc', 1)\nrun.complete()\nrun.tag('best', 'yes')\nrun.log('acc', 2)\n"
        "assert Run.get(experiment.workspace, run.id).tags == {'best': 'yes'}\n"
        "from hpcrun.store.sealing import seal\n"
        "seal(experiment.workspace.session.store.stored(run.paths))\n"
        "run.archive()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = python("from hpcrun import Run\n" + code, status=-signal.SIGKILL)
    assert done.stderr == ""
    sealed, record = sorted(Path(os.environ["HPCRUN_WORKSPACE"]).glob("users/*/active/*"))
    assert sealed.name == f".sealed-{record.name}.0"
    facts = [f for path in (*sealed.iterdir(), *record.iterdir()) for f in facts_of(path)]
    assert sorted(f.data["v"] for f in facts if f.kind == "metric") == [1, 2]
    assert {"tags", "archived"} <= {f.kind for f in facts}


def facts_of(path: Path) -> list[Fact]:
    return decode_page(path.read_bytes()).facts if path.suffix == ".jsonl" else []


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
