"""What may import what, and what importing costs."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from hpcrun.store.sdk import publish
from tests.metrics_job import VERSIONS, interpreter

REPOSITORY = Path(__file__).resolve().parents[1]


def python(*words: str, executable: str = sys.executable, path: str = "") -> str:
    done = subprocess.run(
        [executable, *words],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_imports_go_one_way() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    words = [str(lint), "--no-cache", "setup.cfg"]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_folder_of_modules_is_installed() -> None:
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    made = {path.parent.relative_to(REPOSITORY) for path in REPOSITORY.glob("hpcrun/**/*.py")}
    named = set(config["options"]["packages"].split())
    assert {".".join(folder.parts) for folder in made} <= named


def test_import_hpcrun_pulls_in_no_third_party_module() -> None:
    told = python(
        "-c",
        "import sys; before = set(sys.modules); import hpcrun\n"
        "new = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "print(*(new - set(sys.stdlib_module_names)))",
        path=str(REPOSITORY),
    )
    assert told.split() == ["hpcrun"]


def test_a_job_waits_for_no_module_that_few_agents_need(tmp_path: Path) -> None:
    begin = f"import sys; sys.path.insert(0, {str(publish(tmp_path))!r})"
    told = python(
        *("-I", "-S", "-c"), f"{begin}; import hpcrun.agent.__main__; print(*sys.modules)"
    ).split()
    assert "hpcrun.agent.keeper" in told
    few = {"dataclasses", "shutil", "socket", "subprocess", "tarfile", "threading", "zipfile"}
    assert not few & {*told}


def test_the_public_names_are_there() -> None:
    told = python(
        "-c", "import hpcrun; print(*(getattr(hpcrun, n).__name__ for n in hpcrun.__all__))",
        path=str(REPOSITORY),
    )  # fmt: skip
    assert {"Workspace", "Experiment", "Run", "ScriptRunConfig", "Environment"} <= set(told.split())


@pytest.mark.parametrize("version", VERSIONS)
def test_what_travels_runs_alone_on_old_and_new_interpreters(tmp_path: Path, version: str) -> None:
    executable = interpreter(version)
    if executable is None:
        pytest.skip(f"there is no Python {version} here")
    sdk = publish(tmp_path)
    told = python(
        "-S",
        "-c",
        "import pkgutil, importlib, hpcrun; from hpcrun import Run\n"
        "for found in pkgutil.walk_packages(hpcrun.__path__, 'hpcrun.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        "print(Run.__module__)",
        executable=executable,
        path=str(sdk),
    )
    assert told == "hpcrun.metrics.run\n"
