"""Wheel, sdist and editable install carry everything; the wheel works outside the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.lab import REPOSITORY, build_wheel

DATA = {
    *(f"hpcrun/templates/{p.relative_to(REPOSITORY / 'templates')}"
      for p in (REPOSITORY / "templates").rglob("*.j2")),
    *(f"hpcrun/site_configs/{p.name}" for p in (REPOSITORY / "site_configs").glob("*.yaml")),
    "hpcrun/agent/task.sh", "hpcrun/py.typed", "hpcrun/examples/digits/train.py",
}  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel") / "dist")


def test_the_wheel_carries_templates_and_site_configs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= DATA
    modules = {str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "hpcrun").rglob("*.py")}
    assert names >= modules


def test_the_sdist_carries_all_that_a_wheel_needs(wheel: Path, tmp_path: Path) -> None:
    source = wheel.parent / "source"
    words = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(tmp_path)]
    done = subprocess.run([*words, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (sdist,) = tmp_path.glob("*.tar.gz")
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(tmp_path / "unpacked")], check=True)
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    done = subprocess.run([*words, str(unpacked)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (again,) = tmp_path.glob("*.whl")
    ours, theirs = (zipfile.ZipFile(w).namelist() for w in (wheel, again))
    assert sorted(ours) == sorted(theirs)


def test_an_editable_install_finds_its_data() -> None:
    code = (
        "import importlib.resources as r\n"
        "print(r.files('hpcrun.templates').joinpath('sbatch.sh.j2').is_file(),\n"
        "      r.files('hpcrun.site_configs').joinpath('local.yaml').is_file())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_the_wheel_runs_a_local_run_in_a_new_environment(wheel: Path, tmp_path: Path) -> None:
    venv, project = tmp_path / "venv", tmp_path / "project"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pip = [str(venv / "bin/pip"), "install", "-q", "--disable-pip-version-check", str(wheel)]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    project.mkdir()
    env = {
        "PATH": f"{venv}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "HPCRUN_WORKSPACE": str(tmp_path / "history"),
    }
    for words in (["init"], ["submit", "--follow", "--json"]):
        hpcrun = [str(venv / "bin/hpcrun"), *words]
        done = subprocess.run(hpcrun, cwd=project, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert (run["status"], run["target"]) == ("Completed", "local")
    assert Path(run["files"], "outputs/model.txt").exists()
    for name in ("hpcrun-slurm", "hpcrun"):
        assert os.access(venv / "bin" / name, os.X_OK)
    module = [str(venv / "bin/python"), "-m", "hpcrun", "list", "--json"]
    listed = subprocess.run(module, cwd=project, env=env, capture_output=True, text=True)
    assert json.loads(listed.stdout)[0]["run_id"] == run["run_id"]
    shutil.rmtree(venv)
