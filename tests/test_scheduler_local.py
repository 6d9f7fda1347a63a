"""Target `local`: jobs are real processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from hpcrun.errors import SchedulerError
from hpcrun.ports import JobId, Submission
from hpcrun.scheduler.local import Local
from hpcrun.scheduler.process import ProcessName, environment, start_ticks
from hpcrun.state import Cause, State
from tests.signal_masks import settable

ROOT = Path(__file__).parents[1]


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    """Local; the jobs that a test leaves in its folder are ended."""
    local = Local()
    yield local
    for job_id in local.jobs():
        name = ProcessName.parse(job_id)
        assert name is not None
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if Path(f"/proc/{name.pid}/cwd").readlink() == tmp_path:
                os.killpg(name.pid, signal.SIGKILL)


def unique(folder: Path) -> str:
    """A job's name that no other process's tests have: folders of these may have one name."""
    return str(folder).strip("/").replace("/", "-")


def submission(
    folder: Path, body: str, name: str = "job", first: str = "#!/bin/bash"
) -> Submission:
    script = folder / f"{name}.sh"
    script.write_text(f"{first}\n{body}\n")
    at = PurePosixPath(folder)
    return Submission(at / script.name, name, at, at / f"{name}.log")


def wait_for(path: Path) -> str:
    """What a job has written, once it is there with a whole line."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text()
        time.sleep(0.02)
    raise AssertionError(f"no {path}")


def wait_until_gone(local: Local, job_id: JobId) -> None:
    deadline = time.monotonic() + 120
    while job_id in local.jobs():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process has ended, within some seconds."""
    deadline = time.monotonic() + 120
    while start_ticks(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    return start_ticks(pid) is None


def test_a_job_runs_is_found_and_is_canceled(tmp_path: Path, local: Local) -> None:
    local.check()
    body = "sleep 60 & echo $! > out; exec sleep 60"
    job_id = local.submit(submission(tmp_path, body, name=unique(tmp_path)))
    name = ProcessName.parse(job_id)
    assert name is not None
    assert name.host == os.uname().nodename
    assert local.find(unique(tmp_path)) == [job_id]
    word = local.jobs()[job_id]
    assert (word.state, word.nodes) == (State.STARTING, (name.host,))
    assert local.lives(job_id) == [word]
    assert os.getsid(name.pid) == os.getpgid(name.pid) == name.pid
    wait_for(tmp_path / "out")
    local.cancel(job_id)
    wait_until_gone(local, job_id)
    end = local.lives(job_id)[-1]
    assert end is not None
    assert (end.state, end.cause, end.raw) == (State.FAILED, Cause.LOST, "the process is gone")
    assert local.find(unique(tmp_path)) == []
    local.cancel(job_id)
    # The whole group had the TERM.
    assert gone(int((tmp_path / "out").read_text()))


def test_several_at_once_newest_first(tmp_path: Path, local: Local) -> None:
    job = submission(tmp_path, "sleep 60", name=unique(tmp_path))
    ids = [local.submit(job)]
    for _ in range(3):
        time.sleep(0.02)  # a clock tick is 10 ms
        ids.append(local.submit(job))
    other = local.submit(submission(tmp_path, "sleep 60", name="other"))
    assert local.find(unique(tmp_path)) == ids[::-1]
    assert {*ids, other} <= set(local.jobs())
    local.cancel(ids[1])
    wait_until_gone(local, ids[1])
    assert local.find(unique(tmp_path)) == [ids[3], ids[2], ids[0]]


def test_what_a_job_finds(tmp_path: Path) -> None:
    """Its id, little of the submitter's environment, no open files, no input, default signals."""
    body = """
{ env -0 | tr '\\0' '\\n' | sort
  ls /proc/self/fd | wc -l
  cat | wc -c
  grep -E 'Sig(Ign|Blk)' /proc/self/status
  pwd; echo $$; } > out.part
mv out.part out
"""
    environ = {
        **os.environ,
        "TOKEN": "secret",
        "SLURM_JOB_ID": "7",
        "SLURM_CONF": "/etc/slurm.conf",
        "VIRTUAL_ENV": "/venv",
        "CUDA_VISIBLE_DEVICES": "1",
        "LC_TIME": "C",
        "LANG": "ü",
    }
    job_id = Local(environ).submit(submission(tmp_path, body, name="Lauf ü"))
    lines = wait_for(tmp_path / "out").splitlines()
    *_, pid = lines
    name = ProcessName.parse(job_id)
    assert name is not None
    assert pid == str(name.pid)
    assert lines[-2] == str(tmp_path)
    assert lines[-6:-4] == ["4", "0"]  # 0, 1, 2 and the folder that ls reads
    assert {settable(line.split()[1]) for line in lines[-4:-2]} == {0}
    found = dict(line.split("=", 1) for line in lines[:-6])
    assert found["HPCRUN_JOB_ID"] == job_id
    assert found["HPCRUN_JOB_NAME"] == "Lauf ü"
    assert (found["CUDA_VISIBLE_DEVICES"], found["LC_TIME"], found["LANG"]) == ("1", "C", "ü")
    assert not {"TOKEN", "SLURM_JOB_ID", "SLURM_CONF", "VIRTUAL_ENV", "LC_CTYPE"} & set(found)


def test_output_and_errors_are_appended_to_the_log(tmp_path: Path) -> None:
    job = submission(tmp_path, "echo out; echo err >&2; echo done")
    Path(job.log).write_text("before\n")
    Local().submit(job)
    deadline = time.monotonic() + 120
    while not (text := Path(job.log).read_text()).endswith("done\n"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert text == "before\nout\nerr\ndone\n"


@pytest.mark.parametrize(
    "first", ["#!/bin/bash", "#! /usr/bin/env bash", "#!/usr/bin/env -S bash -u", "#!/bin/bash -eu"]
)
def test_the_first_line_names_the_interpreter(tmp_path: Path, first: str) -> None:
    """The script needs no x bit, and its file system none either."""
    job = submission(tmp_path, 'echo "$BASH_VERSION" > out', first=first)
    Local().submit(job)
    assert wait_for(tmp_path / "out").strip()


def test_a_job_that_cannot_start_is_an_error_at_submit(tmp_path: Path, local: Local) -> None:
    name = unique(tmp_path)
    good = submission(tmp_path, "true", name)
    nowhere = PurePosixPath(tmp_path, "nowhere")
    (tmp_path / "plain.sh").write_text("true\n")
    cases = [
        (replace(good, script=nowhere), "cannot read the script"),
        (replace(good, script=PurePosixPath(tmp_path, "plain.sh")), "does not begin with #!"),
        (replace(good, folder=nowhere), f"{nowhere}: No such file or directory"),
        (replace(good, log=nowhere / "log"), f"{nowhere}/log: No such file or directory"),
        (submission(tmp_path, "", name + "a", "#!/no/bash"), "/no/bash: No such file or directory"),
        (submission(tmp_path, "", name + "b", f"#!{tmp_path}"), f"{tmp_path}: Permission denied"),
    ]
    for job, said in cases:
        with pytest.raises(SchedulerError) as caught:
            local.submit(job)
        assert said in caught.value.message
        assert type(caught.value) is SchedulerError
        assert local.find(job.name) == []


CLIENT = """
import os, signal, sys
from pathlib import PurePosixPath
from hpcrun.ports import Submission
from hpcrun.scheduler.local import Local
script, name, folder = sys.argv[1:]
at = PurePosixPath(folder)
print(Local().submit(Submission(PurePosixPath(script), name, at, at / "log")), flush=True)
os.kill(os.getpid(), getattr(signal, os.environ["ENDS_BY"])) if "ENDS_BY" in os.environ else None
sys.stdin.read()
"""


@pytest.mark.parametrize("ends_by", ["SIGKILL", "SIGINT", "SIGHUP"])
def test_a_job_survives_its_client(tmp_path: Path, local: Local, ends_by: str) -> None:
    job = submission(tmp_path, "sleep 0.5; echo still here > out; exec sleep 60", unique(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, str(job.script), job.name, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "ENDS_BY": ends_by},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert local.find(unique(tmp_path)) == [done.stdout.strip()]
    assert wait_for(tmp_path / "out") == "still here\n"


def test_a_job_survives_the_terminal(tmp_path: Path, local: Local) -> None:
    """The client leads a session on a terminal, which then goes away."""
    job = submission(tmp_path, "sleep 0.5; echo still here > out; exec sleep 60", unique(tmp_path))
    terminal, slave = os.openpty()
    client = subprocess.Popen(
        [
            "setsid",
            "--ctty",
            sys.executable,
            "-c",
            CLIENT,
            str(job.script),
            job.name,
            str(tmp_path),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    deadline = time.monotonic() + 120
    while not (found := local.find(unique(tmp_path))):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.read(terminal, 1000)
    os.close(terminal)  # SIGHUP to the client's session
    assert client.wait(180) != 0
    assert wait_for(tmp_path / "out") == "still here\n"
    assert local.find(unique(tmp_path)) == found


def test_a_job_that_is_over_before_it_is_looked_for(tmp_path: Path, local: Local) -> None:
    job_id = local.submit(submission(tmp_path, "exit 3", name=unique(tmp_path)))
    wait_until_gone(local, job_id)
    assert local.find(unique(tmp_path)) == []
    word = local.lives(job_id)[-1]
    assert word is not None
    assert word.cause is Cause.LOST


def test_a_pid_that_was_given_again_is_not_the_job(tmp_path: Path, local: Local) -> None:
    """The test's own pid, with another start: it is not signaled, and not taken for a job."""
    ticks = start_ticks(os.getpid())
    assert ticks is not None
    old = JobId(f"{os.uname().nodename}:{os.getpid()}:{ticks - 1}")
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        local.cancel(old)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == []
    word = local.lives(old)[-1]
    assert word is not None
    assert word.cause is Cause.LOST
    assert old not in local.jobs()


def test_a_process_that_nobody_waited_for_has_ended(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    assert gone(process.pid)
    assert Path(f"/proc/{process.pid}").exists()
    process.wait()


def test_children_of_a_job_are_no_jobs(tmp_path: Path, local: Local) -> None:
    job_id = local.submit(
        submission(tmp_path, "sleep 60 & echo $! > out; wait", name=unique(tmp_path))
    )
    child = int(wait_for(tmp_path / "out"))
    deadline = time.monotonic() + 120
    while environment(child).get("HPCRUN_JOB_ID") != job_id:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert local.find(unique(tmp_path)) == [job_id]


@pytest.mark.parametrize("act", ["lives", "cancel"])
def test_a_job_on_another_host(local: Local, act: str) -> None:
    with pytest.raises(SchedulerError, match="is on host elsewhere, and this is") as caught:
        getattr(local, act)(JobId("elsewhere:1:2"))
    assert caught.value.transient
    with pytest.raises(SchedulerError, match="is no job of target local"):
        getattr(local, act)(JobId("123"))


def test_a_stopped_job_is_canceled(tmp_path: Path, local: Local) -> None:
    job_id = local.submit(submission(tmp_path, "exec sleep 60"))
    name = ProcessName.parse(job_id)
    assert name is not None
    os.kill(name.pid, signal.SIGSTOP)
    local.cancel(job_id)
    wait_until_gone(local, job_id)


def test_the_answer_can_be_stored(tmp_path: Path, local: Local) -> None:
    job_id = local.submit(submission(tmp_path, "sleep 60"))
    assert json.loads(json.dumps(vars(local.jobs()[job_id])))["state"] == "Starting"
