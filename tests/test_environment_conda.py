"""Conda environments by name: folders as conda leaves them, found where conda keeps them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpcrun.environments.conda import find_conda
from tests.commands import hpcrun


def prefix(folder: Path) -> Path:
    (folder / "conda-meta").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to(sys.executable)
    return folder


def test_where_they_are_looked_for(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".conda").mkdir(parents=True)
    listed = prefix(tmp_path / "elsewhere/torch")
    (home / ".conda/environments.txt").write_text(f"{tmp_path}/gone/torch\n{listed}\n")
    root = prefix(tmp_path / "conda")
    environ = {"CONDA_EXE": f"{root}/bin/conda"}
    assert find_conda("torch", environ, home) == [str(listed)]
    own = prefix(home / ".conda/envs/torch")
    assert find_conda("torch", environ, home) == [str(own)]
    shared = prefix(root / "envs/torch")
    assert find_conda("torch", environ, home) == [str(shared)]
    first = prefix(tmp_path / "envs/torch")
    told = {**environ, "CONDA_ENVS_PATH": f"{tmp_path}/none:{tmp_path}/envs"}
    assert find_conda("torch", told, home) == [str(first)]
    assert find_conda("base", environ, home) == [str(root)]
    assert find_conda("base", {}, home) == find_conda("../torch", environ, home) == []


def test_of_those_that_lie_elsewhere_none_is_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".conda").mkdir(parents=True)
    one, two, other = (prefix(tmp_path / name) for name in ("one/torch", "two/torch", "bare"))
    (tmp_path / "again").symlink_to(tmp_path / "one")
    known = home / ".conda/environments.txt"
    known.write_text(f"{one}\n{tmp_path}/again/torch\n{other}\n")
    assert find_conda("torch", {}, home) == [str(one)]
    known.write_text(f"{one}\n{two}\n{other}\n")
    for name, value in (("HOME", home), ("HPCRUN_WORKSPACE", tmp_path / "ws")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(other)
    Path("run.yaml").write_text("script: s.py\nenvironment: {name: t, conda: torch}\n")
    Path("s.py").touch()
    said = hpcrun("render", code=2).stderr
    assert f"'torch' may be any of 2 conda environments: {one}, {two} (give its folder" in said
    (other / "bin/python").unlink()
    said = hpcrun("render", "--set", "environment.conda=bare", code=2).stderr
    assert f"the conda environment {other} has no python" in said


def test_a_run_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prefix(tmp_path / "envs/torch")
    monkeypatch.setenv("CONDA_ENVS_PATH", str(tmp_path / "envs"))
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "ws"))
    (tmp_path / "p").mkdir()
    monkeypatch.chdir(tmp_path / "p")
    Path("s.py").write_text("import os\nprint(os.environ['CONDA_PREFIX'], os.environ['PATH'])\n")
    Path("run.yaml").write_text("script: s.py\nenvironment: {name: t, conda: torch}\n")
    assert f"{folder} {folder}/bin:" in hpcrun("submit", "--follow").stdout
    said = hpcrun("render", "--set", "environment.conda=tarch", code=2).stderr
    assert "there is no conda environment 'tarch' here (load conda's module" in said
    said = hpcrun("render", "--set", "environment.pip=[numpy]", code=2).stderr
    assert "an environment is either built of packages, or one that is there" in said
