"""A run is a list of attempts: submitting it by hand once more, on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcrun import Experiment, HpcrunError, Run, Workspace
from hpcrun.errors import ConfigError, SchedulerError, StoreError
from hpcrun.scheduler.process import ProcessName, start_ticks
from hpcrun.store.deciding import decide
from hpcrun.workflow.cut import first_unknown, this_client
from tests.commands import answer, script_of
from tests.lab import eventually
from tests.local_run import submit, workspace

__all__ = ["workspace"]

# Fails until the file that its first attempt wrote is there.
TRAIN = """\
import os
from hpcrun import Run

run = Run.get_context()
again = os.path.exists("outputs/state")
for step in (range(2, 5) if again else range(3)):
    run.log("loss", 10 * again + step, step=step)
open("outputs/state", "a").write("x")
print("attempt", os.environ["HPCRUN_ATTEMPT"], flush=True)
raise SystemExit(0 if again else 3)
"""


def test_a_run_whose_folders_are_missing_has_them_once_it_is_submitted_again(
    workspace: Workspace, tmp_path: Path
) -> None:
    """As where the client was killed between the record and the folders."""
    run = submit(workspace, tmp_path, "import os\nassert os.path.isdir('outputs')\n")
    run.wait_for_completion(wait_post_processing=True)
    shutil.rmtree(run.paths.files)
    run.resubmit()
    run.wait_for_completion(wait_post_processing=True)
    assert [str(each.attempt) for each in run.record().attempts] == ["1.0", "2.0"]


def test_a_second_submission_goes_on_in_the_same_run(workspace: Workspace, tmp_path: Path) -> None:
    run = submit(workspace, tmp_path, TRAIN)
    run.wait_for_completion(wait_post_processing=True, raise_on_error=False)
    assert run.get_status() == "Failed"
    script = Path(run.paths.script).read_bytes()
    (tmp_path / "source/train.py").write_text("raise SystemExit(9)  # not the snapshot's\n")
    run.resubmit()
    run.wait_for_completion(wait_post_processing=True)
    first, second = run.record().attempts
    assert [str(first.attempt), str(second.attempt)] == ["1.0", "2.0"]
    assert first.verdict is not None and second.verdict is not None
    assert (first.verdict.exit_code, second.verdict.exit_code) == (3, 0)
    assert first.job_id != second.job_id
    assert run.get_metrics() == {"loss": [0, 1, 12, 13, 14]}
    assert Path(run.paths.outputs, "state").read_text() == "xx"
    for attempt in ("1.0", "2.0"):
        log = Path(run.paths.user_logs, attempt, "rank-0.log")
        assert log.read_text() == f"attempt {attempt}\n"
    assert Path(run.paths.script).read_bytes() == script


UPLOADS = """\
import os
from hpcrun import Run

run, attempt = Run.get_context(), os.environ["HPCRUN_ATTEMPT"]
with open("outputs/aside", "w") as aside:
    aside.write("the model of " + attempt)
os.replace("outputs/aside", "outputs/model.pt")
run.upload_file("outputs/model.pt", "outputs/model.pt")
run.upload_file("weights", "outputs/model.pt")
run.upload_file("same", "train.py")
raise SystemExit(0 if attempt == "2.0" else 3)
"""


@pytest.mark.parametrize("place", ["history", "node"])
def test_each_attempt_uploads_its_own_files(
    workspace: Workspace, tmp_path: Path, place: str
) -> None:
    (tmp_path / "source/train.py").write_text(UPLOADS)
    config = script_of(UPLOADS, tmp_path / "source")
    config.run_config.working_directory = place
    run = Experiment(workspace, "again").submit(config)
    run.wait_for_completion(wait_post_processing=True, raise_on_error=False)
    run.resubmit()
    run.wait_for_completion(wait_post_processing=True)
    for name in ("outputs/model.pt", "weights"):
        copy = run.download_file(name, tmp_path / "copy")
        assert copy.read_text() == "the model of 2.0"
        file = next(file for file in run.get_files() if file.name == name)
        assert file.sha256 == hashlib.sha256(b"the model of 2.0").hexdigest()
    assert answer(workspace.path, "store", "check", "--digests") == "nothing is wrong\n"


def test_a_run_that_goes_on_is_not_submitted_again(workspace: Workspace, tmp_path: Path) -> None:
    run = submit(workspace, tmp_path, "import time; time.sleep(300)\n")
    eventually(lambda: run.get_status() == "Running")
    with pytest.raises(SchedulerError, match="is still Running"):
        run.resubmit()
    run.cancel()
    run.wait_for_completion(wait_post_processing=True)
    assert len(run.record().attempts) == 1


AGAIN = """\
import sys
from hpcrun import Run, Workspace

run = Run.get(Workspace(sys.argv[1]), sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
run.resubmit()
"""


def test_of_two_who_submit_a_run_again_at_once_one_does(
    workspace: Workspace, tmp_path: Path
) -> None:
    """The other's job would end as a duplicate, and might be taken for the run's."""
    go = tmp_path / "go"
    go.touch()
    script = f"import os, time\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.05)\n"
    run = submit(workspace, tmp_path, script)
    run.wait_for_completion(wait_post_processing=True)
    go.unlink()  # the next attempt goes on until both have tried
    words = [sys.executable, "-c", AGAIN, str(workspace.path), run.id]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(words, **pipes) as one, subprocess.Popen(words, **pipes) as two:
        assert [one.stdout.readline(), two.stdout.readline()] == [b"ready\n"] * 2
        said = b""
        for process in (one, two):
            process.stdin.write(b"\n")
            process.stdin.flush()
        for process in (one, two):
            said += process.communicate()[1]
    go.touch()
    assert sorted((one.returncode, two.returncode)) == [0, 1]
    assert re.search(b"is being submitted again by process|goes on again|is still ", said), said
    run.wait_for_completion(wait_post_processing=True)
    assert [str(each.attempt) for each in run.record().attempts] == ["1.0", "2.0"]
    assert "duplicate" not in Path(run.paths.batch_log(2)).read_text()
    with subprocess.Popen(["sleep", "300"]) as other:
        client = ProcessName(os.uname().nodename, other.pid, start_ticks(other.pid) or 0)
        told = {**this_client(), "client": str(client), "time": time.time()}
        decide(run.paths.owner, f"{run.id}-3", json.dumps(told))
        try:
            with pytest.raises(SchedulerError, match=f"submitted again by process {client}"):
                run.resubmit()
        finally:
            other.kill()
    run.resubmit()  # which never began
    run.wait_for_completion(wait_post_processing=True)
    assert len(run.record().attempts) == 3


def test_what_it_needs_must_be_there(workspace: Workspace, tmp_path: Path) -> None:
    run = submit(workspace, tmp_path, "pass\n")
    run.wait_for_completion(wait_post_processing=True)
    snapshot = run.record().request["snapshot"]["manifest"]
    for path, kind in ((run.paths.script, StoreError), (snapshot, HpcrunError)):
        aside = Path(path).rename(f"{path}.aside")
        with pytest.raises(kind, match="is gone"):
            run.resubmit()
        aside.rename(path)
    assert len(run.record().attempts) == 1


def test_the_job_of_an_earlier_submission_ends_as_a_duplicate(
    workspace: Workspace, tmp_path: Path
) -> None:
    """It may come back late, as when an administrator requeues it."""
    run = submit(workspace, tmp_path, TRAIN)
    run.wait_for_completion(wait_post_processing=True, raise_on_error=False)
    run.resubmit()
    run.wait_for_completion(wait_post_processing=True)
    first = run.record().attempts[0]
    words = ["/bin/bash", run.paths.script]
    late = {"PATH": "/usr/bin:/bin", "HPCRUN_JOB_ID": str(first.job_id)}
    done = subprocess.run(words, env=late, capture_output=True, text=True, check=False)
    assert (done.returncode, len(run.record().attempts)) == (0, 2)
    assert "is a duplicate: this submission is claimed by submission 2" in done.stdout


@pytest.mark.parametrize(
    ("found", "known", "job"),
    [
        (("12", "11"), {"11"}, "12"),
        (("11",), {"11"}, None),
        (("11",), {"11;cluster"}, None),
        (("12;cluster", "11;cluster"), {"11"}, "12;cluster"),
        ((), {"11"}, None),
    ],
)
def test_a_lost_answer_is_not_taken_for_an_earlier_job(
    found: tuple[str, ...], known: set[str], job: str | None
) -> None:
    assert first_unknown(found, known) == job


def test_an_interactive_run_has_no_job(workspace: Workspace, tmp_path: Path) -> None:
    with Experiment(workspace, "again").start_logging(snapshot_directory=None) as run:
        pass
    with pytest.raises(SchedulerError, match="is interactive"):
        Run.get(workspace, run.id).resubmit()


RESUMES = """\
import sys
from hpcrun import Run

run = Run.get_context()
open("outputs/checkpoint-1.tmp", "w").write("1")
print(sys.argv[1:], run.resume_from)
if not run.resume_from: open("outputs/checkpoint-0", "w").write("0")
"""


def test_the_newest_checkpoint_or_another_is_resumed(workspace: Workspace, tmp_path: Path) -> None:
    run = submit(workspace, tmp_path, RESUMES, resume_from="auto")
    run.wait_for_completion(wait_post_processing=True)
    own, other = f"{run.paths.outputs}/checkpoint-0", tmp_path / "older checkpoint"
    run.resubmit()
    run.wait_for_completion(wait_post_processing=True)
    other.write_text("weights")
    run.resubmit(resume_from=other)
    run.wait_for_completion(wait_post_processing=True)
    logs = [Path(run.paths.user_logs, f"{n}.0/rank-0.log").read_text() for n in (1, 2, 3)]
    expected = [
        "[] None\n",
        f"['--resume-from', '{own}'] {own}\n",
        f"['--resume-from', '{other}'] {other}\n",
    ]
    assert logs == expected
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        run.resubmit(resume_from=tmp_path / "nothing")
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        submit(workspace, tmp_path, RESUMES, resume_from=str(tmp_path / "nothing"))


def test_a_run_that_others_see_names_no_checkpoint_of_a_private_one(
    workspace: Workspace, tmp_path: Path
) -> None:
    hidden = submit(workspace, tmp_path, RESUMES, private=True)
    hidden.wait_for_completion(wait_post_processing=True)
    checkpoint, link = Path(hidden.paths.outputs, "checkpoint-0"), tmp_path / "link"
    link.symlink_to(checkpoint)
    for path in (checkpoint, link):
        with pytest.raises(ConfigError, match="lies in a private run, and this one"):
            submit(workspace, tmp_path, RESUMES, resume_from=str(path))
    known = submit(workspace, tmp_path, RESUMES)
    known.wait_for_completion(wait_post_processing=True)
    with pytest.raises(ConfigError, match="lies in a private run, and this one"):
        known.resubmit(resume_from=checkpoint)
    another = submit(workspace, tmp_path, RESUMES, private=True, resume_from=str(checkpoint))
    assert another.wait_for_completion(wait_post_processing=True)["status"] == "Completed"
