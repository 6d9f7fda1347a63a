"""Target `local`: the whole line on this machine, as a script uses it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, HpcrunError, Run, Workspace
from hpcrun.errors import ConfigError, RunFailed, WaitTimeout
from tests.commands import TRAIN, hpcrun, script_of, told
from tests.lab import eventually

# -- metric files -------------------------------------------------------------------------------

WRITES = """\
import time
from tensorboardX import SummaryWriter

for folder in ("train", "val"):
    writer = SummaryWriter(f"logs/{folder}")
    for step in range(10):
        writer.add_scalar("loss", step / 2, step)
    writer.add_histogram("weights", [1.0, 2.0], 9)
    writer.close()
time.sleep(2.5)
"""


def test_metric_files_and_what_the_node_did(project: Path) -> None:
    config = script_of(WRITES, project)
    config.metric_files = ["logs/**/events.out.tfevents.*"]
    config.system_metrics_seconds = 1
    run = Experiment(Workspace.from_config(), "line").submit(config)
    run.wait_for_completion(wait_post_processing=True)
    halves = [step / 2 for step in range(10)]
    assert run.get_metrics() == {"train/loss": halves, "val/loss": halves}
    host = os.uname().nodename
    system = run.get_system_metrics()
    assert f"system/{host}/cpu_percent" in system
    assert told("metrics", "--system", run.id) == system
    assert told("metrics", run.id) == run.get_metrics()
    shown = hpcrun("show", run.id).stdout
    assert shown.count(": 10 values; passed over: 1 × histogram\n") == 2
    assert f"of {os.cpu_count()} busy on average" in shown and "at most on one node" in shown
    assert "idle" not in shown


# -- Azure ML's words ----------------------------------------------------------------------------


def test_the_api_in_azure_mls_words(project: Path) -> None:
    workspace = Workspace.from_config()
    experiment = Experiment(workspace, "api")
    config = script_of(TRAIN, project)
    config.arguments = ["--epochs", 20, "--lr", 1e-3]
    run = experiment.submit(config, tags={"a": "b"})
    details = run.wait_for_completion(wait_post_processing=True)
    assert (details["runId"], details["status"], details["target"]) == (
        run.id, "Completed", "local",
    )  # fmt: skip
    assert set(details) >= {"startTimeUtc", "endTimeUtc", "properties", "runDefinition", "logFiles"}
    assert run.get_metrics("loss") == {"loss": [3, 2, 1]}
    assert run.get_metrics()["table"] == {"x": [1, 2], "y": [3, 4]}
    names = list(run.get_file_names())
    assert "outputs/words.txt" in names and "user_logs/1.0/rank-0.log" in names
    run.download_file("outputs/words.txt", project / "words")
    assert (project / "words").read_text() == "--epochs 20 --lr 0.001"
    run.download_files("outputs/", project / "all")
    assert (project / "all/outputs/deep/more.txt").read_text() == "more"
    run.download_files("outputs/deep", project / "flat", append_prefix=False)
    assert (project / "flat/more.txt").read_text() == "more"
    run.tag("kind", "x")
    run.set_tags({"n": 1})  # type: ignore[dict-item]
    run.remove_tags("a")
    assert run.get_tags() == {"kind": "x", "n": "1"}
    run.add_properties({"p": "q"})
    with pytest.raises(ConfigError, match="write-once"):
        run.add_properties({"p": "r"})
    run.display_name = "named"
    assert (run.display_name, run.get_properties()["p"]) == ("named", "q")
    environment = run.get_environment()
    assert environment.python.interpreter_path == sys.executable
    assert (environment.name, environment.modules) == ("this", [])
    archive = run.restore_snapshot(path=project / "restored")
    assert archive.name == f"{run.get_snapshot_id()}.zip" and archive.exists()
    assert [r.id for r in experiment.get_runs(tags={"kind": "x"})] == [run.id]
    assert list(experiment.get_runs(tags="nothing")) == []
    assert workspace.get_run(run.id).id == Run.get(workspace, run.id[:-3]).id == run.id
    assert list(workspace.experiments) == ["api"]


def test_a_snapshot_of_odd_names_and_links_is_restored(project: Path) -> None:
    Path(os.fsdecode(b"bad\xff.txt")).write_text("x")
    Path("link").symlink_to("train.py")
    run = Experiment(Workspace.from_config(), "odd").submit(script_of(TRAIN, project))
    run.wait_for_completion(wait_post_processing=True)
    with zipfile.ZipFile(run.restore_snapshot(path="restored")) as archive:
        assert archive.read(b"bad\xff.txt".decode("cp437")) == b"x"
        assert archive.read("link") == b"train.py"
        assert stat.S_ISLNK(archive.getinfo("link").external_attr >> 16)


FILES = """\
from hpcrun import Run

run = Run.get_context()
open("plot.png", "wb").write(b"\\x89PNG\\r\\n\\x1a\\n...")
run.log_image("plot", "plot.png")
run.log_confusion_matrix("errors", {
    "schema_type": "confusion_matrix", "schema_version": "v1",
    "data": {"class_labels": ["a", "b"], "matrix": [[1, 2], [3, 4]]},
})
run.upload_file("weights.bin", "plot.png")
print("said")
"""


def test_images_charts_and_uploads_of_a_job_can_be_read(project: Path) -> None:
    run = Experiment(Workspace.from_config(), "files").submit(script_of(FILES, project))
    run.wait_for_completion(wait_post_processing=True)
    metrics = run.get_metrics(populate=True)
    assert metrics["plot"] == b"\x89PNG\r\n\x1a\n..."
    assert metrics["errors"]["data"]["matrix"] == [[1, 2], [3, 4]]
    name = run.get_metrics("plot")["plot"]
    files = {file.name: file for file in run.get_files()}
    assert files[name].sha256 == files["weights.bin"].sha256 is not None
    for wanted in (name, "weights.bin"):
        assert run.download_file(wanted, project / "copy").read_bytes() == metrics["plot"]
    run.upload_file("outputs/later.txt", project / "train.py")
    assert {f.name for f in run.get_files() if f.sha256} == {
        name,
        "weights.bin",
        "outputs/later.txt",
    }
    assert json.loads(json.dumps(told("metrics", run.id)))["plot"] == name
    assert {f["name"] for f in told("files", run.id)} >= {name, "weights.bin"}
    assert Path(told("download", run.id, name, "there.png")["path"]).read_bytes()[:4] == b"\x89PNG"
    # A / at the end asks for a folder, as of cp and rsync.
    path = told("download", run.id, "weights.bin", "new/deep/")["path"]
    assert path == "new/deep/weights.bin" and Path(path).read_bytes()[:4] == b"\x89PNG"
    assert run.download_file("weights.bin", "made/") == Path("made/weights.bin")
    logs = run.get_all_logs(project / "logs")
    assert [p.read_text() for p in logs if p.name == "rank-0.log"] == ["said\n"]
    assert run.get_details_with_logs()["logFiles"]["user_logs/1.0/rank-0.log"] == "said\n"
    columns = run.get_metric_columns("plot")
    assert columns["plot"].tolist() == [name]
    with pytest.raises(HpcrunError, match="has no metric 'absent'"):
        run.get_metric_columns("absent")


def test_a_failed_run_raises_and_a_canceled_one_does_not(project: Path) -> None:
    experiment = Experiment(Workspace.from_config(), "ends")
    failed = experiment.submit(script_of("raise ValueError('bad column')", project))
    with pytest.raises(RunFailed, match="exit code 1"):
        failed.wait_for_completion(wait_post_processing=True)
    assert (
        failed.wait_for_completion(wait_post_processing=True, raise_on_error=False)["status"]
        == "Failed"
    )
    assert "bad column" in str(failed.record().verdict)
    slow = experiment.submit(script_of("import time; time.sleep(100)", project))
    with pytest.raises(WaitTimeout):
        slow.wait_for_completion(timeout_seconds=0.5)
    slow.cancel()
    assert slow.wait_for_completion(wait_post_processing=True)["status"] == "Canceled"
    assert slow.get_detailed_status()["status"] == "Canceled"


# Says when it waits: a profiler hears of the call.
WAITS = """\
import sys, time
from hpcrun import Run, Workspace

def hear(frame, event, called):
    if called is time.sleep:
        sys.setprofile(None)
        print("waits", file=sys.stderr, flush=True)

run = Run.get(Workspace.from_config(), sys.argv[1])
sys.setprofile(hear)
run.wait_for_completion(show_output=bool(sys.argv[2:]))
"""


@pytest.mark.parametrize("show_output", [False, True])
def test_ctrl_c_leaves_the_run_alive_and_says_so(project: Path, show_output: bool) -> None:
    (project / "train.py").write_text("import time; time.sleep(100)")
    run_id = told("submit")["run_id"]
    words = [sys.executable, "-c", WAITS, run_id, *["show"] * show_output]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None and waiting.stderr.readline() == "waits\n"
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=180)
    assert waiting.returncode == -signal.SIGINT and "KeyboardInterrupt" in said
    assert f"run {run_id} goes on; cancel it with: run.cancel(), or hpcrun cancel {run_id}" in said
    eventually(lambda: told("show", run_id)["status"] == "Running")
    hpcrun("cancel", run_id)
    assert told("wait", run_id, code=21)["status"] == "Canceled"


def test_output_is_shown_once_with_azure_mls_headings(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Experiment(Workspace.from_config(), "shown").submit(script_of(TRAIN, project))
    run.wait_for_completion(show_output=True)
    out = capsys.readouterr().out
    assert out.startswith(f"RunId: {run.id}\n")
    assert out.count("trained\n") == 1 and "Streaming user_logs/1.0/rank-0.log" in out
    assert "Execution Summary\n=================\n" in out


def test_what_is_logged_from_outside_joins_the_run(project: Path) -> None:
    run = Experiment(Workspace.from_config(), "outside").submit(script_of(TRAIN, project))
    run.wait_for_completion(wait_post_processing=True)
    run.log("test_accuracy", 0.5)
    run.flush()
    assert run.get_metrics("test_accuracy") == {"test_accuracy": 0.5}
    assert (run.experiment_name, run.rank, run.world_size) == ("outside", 0, 1)


def test_submitting_changes_nothing_of_the_callers(project: Path) -> None:
    config = script_of(TRAIN, project)
    config.tags = {"mine": "1"}
    Experiment(Workspace.from_config(), "pure").submit(config, tags={"more": "2"})
    assert config.tags == {"mine": "1"} and config.experiment is None


def test_a_runconfig_is_submitted_by_name(project: Path) -> None:
    config = script_of(TRAIN, project)
    config.asked().save(project, "saved")
    workspace = Workspace.from_config()
    run = Experiment(workspace, "byname").submit("saved", source_directory=project)
    assert run.wait_for_completion(wait_post_processing=True)["status"] == "Completed"
    done = hpcrun("submit", "-c", "saved", "--set", "arguments=[x]", "--follow")
    assert "trained x\n" in done.stdout
    choices = {c["name"]: c["origin"] for c in told("explain", "-c", "saved")["choices"]}
    assert choices["script"].startswith(".azureml/saved.runconfig:")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"script": "nothing.py"}, "there is no script nothing.py"),
        ({"arguments": [None]}, "arguments"),
        ({"compute_target": "nowhere/gpu"}, "there is no site 'nowhere'"),
        ({"environment": "/no/such/venv"}, "there is no virtual environment /no/such/venv"),
        ({"secrets": {"TOKEN": "/no/such/file"}}, "secret TOKEN"),
    ],
)
def test_bad_values_are_one_clear_sentence(
    project: Path, change: dict[str, Any], sentence: str
) -> None:
    config = script_of(TRAIN, project)
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(HpcrunError, match=sentence):
        Experiment(Workspace.from_config(), "bad").submit(config)
    assert not (project.parent / "history").exists()


def test_a_script_runs_unchanged_without_hpcrun(project: Path) -> None:
    began = time.time()
    done = subprocess.run(
        [sys.executable, "train.py", "x"], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout == "trained x\n"
    (record,) = (project / ".hpcrun/offline").iterdir()
    assert int(record.name.split("_")[1]) >= int(began)
