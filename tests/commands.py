"""hpcrun on this machine: its commands as a person types them, and a script for a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from hpcrun import Environment, ScriptRunConfig
from hpcrun.cli.main import cli

TRAIN = """\
import os, sys
from hpcrun import Run

run = Run.get_context()
for step in range(3):
    run.log("loss", 3 - step, step=step)
run.log_table("table", {"x": [1, 2], "y": [3, 4]})
run.log("nan", float("nan"))
os.makedirs("outputs", exist_ok=True)
open("outputs/words.txt", "w").write(" ".join(sys.argv[1:]))
os.makedirs("outputs/deep", exist_ok=True)
open("outputs/deep/more.txt", "w").write("more")
print("trained", *sys.argv[1:])
"""


def hpcrun(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "hpcrun", *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done


def told(*words: str, code: int = 0) -> Any:
    command, *rest = words
    return json.loads(hpcrun(command, "--json", *rest, code=code).stdout)


def answer(workspace: Path, *words: str) -> str:
    """What a command prints, in this process: for tests that ask many. Its errors are raised."""
    words = ("-w", str(workspace), *words)
    done = CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)
    return done.stdout


def script_of(code: str, folder: Path) -> ScriptRunConfig:
    """A script of this text in a folder, for this very interpreter."""
    (folder / "script.py").write_text(code)
    config = ScriptRunConfig(folder, "script.py")
    environment = Environment("this")
    environment.python.interpreter_path = sys.executable
    config.run_config.environment = environment
    return config
