"""Interactive runs: real processes, their companions, and what survives them."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcrun import Experiment, Run
from hpcrun.errors import StoreError
from hpcrun.record import Fact, decode_page
from hpcrun.state import Cause, State
from hpcrun.workflow.collect import collect
from tests.lab import eventually
from tests.notebook import (
    BEGIN,
    companions,
    left_alone,
    newest,
    python,
    seen_long_ago,
    spool,
)

PNG = b"\x89PNG\r\n\x1a\n..."


pytestmark = pytest.mark.usefixtures("notebook")


def test_a_run_in_a_with_statement(experiment: Experiment, notebook: Path) -> None:
    (notebook / "outputs").mkdir()
    (notebook / "plot.png").write_bytes(PNG)
    with experiment.start_logging(display_name="first") as run:
        assert run.get_status() == "Running"
        run.log("loss", 0.5, step=0)
        run.log_image("plot", "plot.png")
        run.tag("kind", "x")
        (notebook / "outputs/model.txt").write_text("half a model")
        run.upload_file("outputs/model.txt", "outputs/model.txt")
        (notebook / "outputs/model.txt").write_text("model")
        assert run.get_metrics("loss") == {"loss": 0.5}
        assert run.output_directory == str(notebook / "outputs")
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
    assert found.restore_snapshot(path=notebook / "zip").name == f"{found.get_snapshot_id()}.zip"
    assert found.get_details()["status"] == found.wait_for_completion()["status"] == "Completed"
    # complete() has waited for the companion: where a job ends, it is killed at once.
    assert not record.attempt.undrained and not spool(found).exists()
    assert (record.problems, record.lost_records, record.bad_lines) == ((), 0, 0)


def test_what_cannot_be_collected_keeps_nothing_else_from_it(
    experiment: Experiment, notebook: Path
) -> None:
    """A pipe is no file, a link outside leads to what is not the run's, a name that stands there
    holds another file: the rest comes."""
    outputs = notebook / "outputs"
    outputs.mkdir()
    for name in ("a", "taken", "z"):
        (outputs / name).write_text(name)
    os.mkfifo(outputs / "pipe")
    for name, target in {"inside": "a", "lost": "nowhere", "outside": "../notebook.py"}.items():
        (outputs / name).symlink_to(target)
    with experiment.start_logging(snapshot_directory=None) as run:
        run.upload_file("outputs/taken/file", notebook / "notebook.py")
    found = Run.get(experiment.workspace, run.id)
    names = ["outputs/a", "outputs/inside", "outputs/taken/file", "outputs/z"]
    assert found.get_file_names() == names
    assert not Path(found.paths.outputs, "inside").is_symlink()
    (problem,) = found.record().problems
    assert problem.startswith(f"1 outputs in {outputs} were not collected: ")
    assert "outputs/taken" in problem


def test_a_run_without_snapshot_and_outputs(experiment: Experiment, notebook: Path) -> None:
    (notebook / "outputs").mkdir()
    (notebook / "outputs/model.txt").write_text("model")
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
    eventually(lambda: not spool(run).exists())  # a moment after that is told
    verdict = run.record().verdict
    assert verdict is not None and verdict.cause == Cause.LOST
    values = run.get_metric_columns("x")["x"].tolist()
    assert values == list(range(len(values)))
    assert len(values) - acknowledged in (0, 1)
    assert run.record().bad_lines == 0


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
