"""Where there is no shell beside a run, that is said; what one is given where there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcrun import Experiment, Workspace
from tests.commands import hpcrun, told
from tests.lab import eventually

WAIT = """\
import os, time
while not os.path.exists("go"):
    time.sleep(0.05)
"""


def test_a_run_on_this_machine(project: Path) -> None:
    (project / "train.py").write_text(WAIT)
    run = told("submit")
    done = hpcrun("shell", run["run_id"], "--", "true", code=3)
    assert f"any shell here is beside it (its folder: cd {run['files']})" in done.stderr
    Path(run["files"], "go").touch()
    hpcrun("wait", run["run_id"])


def test_a_run_without_a_job(project: Path, tmp_path: Path) -> None:
    with Experiment(Workspace(tmp_path / "history"), "mine").start_logging() as run:
        done = hpcrun("shell", run.id, code=3)
    assert "has no job" in done.stderr


def test_a_run_that_there_is_none_of(project: Path) -> None:
    hpcrun("shell", "none", code=9)


def beside(sdk: Path, **more: object) -> subprocess.CompletedProcess[str]:
    asked = {"run_id": "r", "attempt": "1.0", "rank": None, "words": [], "term": "dumb", **more}
    words = [sys.executable, "-I", "-S", str(sdk), "beside", json.dumps(asked)]
    return subprocess.run(words, capture_output=True, text=True, check=False, input="")


@pytest.mark.parametrize("rank", [None, 1])
def test_the_first_process_of_the_run_gives_its_environment(
    sdk: Path, tmp_path: Path, rank: int | None
) -> None:
    run = {"HPCRUN_RUN_ID": f"a b_{os.getpid()}", "HPCRUN_ATTEMPT": "2.1", "RANK": "1"}
    folders = {"HPCRUN_FILES": str(tmp_path), "HPCRUN_WORKING_DIRECTORY": str(tmp_path / "gone")}
    given = run | folders | {"NAME": "x=y\nz", "PATH": os.environ["PATH"]}
    words = ["sh", "-c", 'echo; read line; exec env NAME=later sh -c "echo; read line"']
    with subprocess.Popen(words, env=given, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        show = 'printf %s "$NAME|$PWD|$(nice)|$(cat /proc/self/oom_score_adj)"'
        about = {"run_id": run["HPCRUN_RUN_ID"], "attempt": "2.1", "rank": rank}
        done = beside(sdk, **about, words=["sh", "-c", show])
        nice = os.nice(0) + 10
        assert done.stdout.split("|") == ["x=y\nz", str(tmp_path), str(min(nice, 19)), "1000"]
        for other in ({"attempt": "2.0"}, {"rank": 0}, {"run_id": "r"}):
            assert beside(sdk, **{**about, **other}, words=["true"]).returncode == 255
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        again = eventually(lambda: beside(sdk, **about, words=["sh", "-c", show]).stdout)
        assert again.startswith("later|")  # an exec is the same process
        process.communicate("\n")
