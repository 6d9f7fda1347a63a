"""Environments by name and version, as Azure ML keeps them in a workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcrun import Environment, ScriptRunConfig, Workspace
from hpcrun.config.environment import PythonSection
from hpcrun.errors import ConfigError, StoreError
from hpcrun.reading import read_value
from tests.commands import hpcrun
from tests.wheels import make_wheel


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("")
    return tmp_path


def test_versions_count_from_one_and_the_same_content_is_no_new_one(project: Path) -> None:
    workspace = Workspace.from_config()
    wheel = make_wheel(project / "my wheels", "tinypack", "1.0")
    (project / "r.txt").write_text("numpy  # any\n./my wheels/tinypack-1.0-py3-none-any.whl\n")
    vision = Environment.from_pip_requirements("vision", "r.txt")
    first = vision.register(workspace)
    assert (first.version, first.requirements) == ("1", None)
    assert first.pip == ["numpy", wheel.as_uri()]
    assert vision.register(workspace) == first == first.register(workspace)
    (project / "r.txt").write_text("numpy>=2\n")
    second = vision.register(workspace)
    own = Environment("own", PythonSection("bin/python"), modules=["gcc"], pip=[])
    kept = own.register(workspace)
    assert kept.python.interpreter_path == f"{project}/bin/python"
    assert Environment.get(workspace, "vision") == second
    assert Environment.get(workspace, "vision", version=1) == first
    assert Environment.list(workspace) == {"own": kept, "vision": second}
    with pytest.raises(StoreError, match=r"no environment 'vision', version 3 \(it has 1, 2"):
        Environment.get(workspace, "vision", "3")
    with pytest.raises(StoreError, match=r"no environment 'visions' \(did you mean `?vision"):
        Environment.get(workspace, "visions")
    with pytest.raises(ConfigError, match=r"'\.\./a' is no name for an environment"):
        Environment("../a").register(workspace)


def test_a_run_names_a_registered_environment(project: Path) -> None:
    workspace = Workspace.from_config()
    Environment("mine", PythonSection("/first/python")).register(workspace)
    Environment("mine", PythonSection("/second/python")).register(workspace)
    (project / "run.yaml").write_text("script: train.py\nenvironment: mine\n")
    assert "environment\tmine:2\trun.yaml:2\npython\t/second/python" in hpcrun("explain").stdout
    assert "/first/python" in hpcrun("explain", "--set", "environment=mine:1").stdout
    said = hpcrun("explain", "--set", "environment=mines", code=2).stderr
    assert "there is no environment 'mines' (did you mean" in said
    said = hpcrun("explain", "--set", "environment=torch", code=2).stderr
    assert "there is no environment 'torch' (known are mine)" in said
    config = ScriptRunConfig(".", "train.py", environment="mine:1")
    prepared = workspace.session.prepare(read_value(type(config.run_config), config.asked()))
    assert prepared.plan.launch.python == "/first/python"
