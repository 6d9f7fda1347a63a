"""Interpreters with interactive runs of their own, as a notebook's kernel is one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpcrun import Experiment, Run
from hpcrun.metrics.interactive import spool_of
from hpcrun.workflow.liveness import SILENCE


def notebook_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a source, as the current one, and a workspace of its own."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "notebook.py").write_text("words")
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "history"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(folder)
    return folder


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
