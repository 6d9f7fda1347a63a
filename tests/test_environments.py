"""Environments that are built of packages: their requirements, their key, and a run in one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from hpcrun import Environment, Experiment, ScriptRunConfig, Workspace
from hpcrun.environments.cache import Wanted, listed
from hpcrun.environments.interpreter import Interpreter, find_interpreter
from hpcrun.environments.requirements import Requirement, read_requirements
from hpcrun.errors import BuildError, ConfigError
from tests.commands import hpcrun, told
from tests.wheels import make_wheel

PYTHON = Interpreter("/usr/bin/python3.11", "cpython", "3.11", "linux-x86_64", "/usr")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose script imports `tinypack`, of which there are wheels beside it."""
    folder = tmp_path / "project"
    make_wheel(folder / "wheels", "tinypack", "1.0")
    (folder / "train.py").write_text("import tinypack\nprint('tinypack', tinypack.VERSION)\n")
    (folder / "requirements.txt").write_text("--no-index\n--find-links wheels\ntinypack  # ours\n")
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.chdir(folder)
    return folder


def rooms(project: Path) -> list[str]:
    return [str(path) for path in (project.parent / "ws").glob("users/*/environments")]


# -- requirements ---------------------------------------------------------------------------------


def test_requirements_are_read_whole(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "w", "tinypack", "1.0")
    (tmp_path / "nested").mkdir()
    (tmp_path / "nested/more.txt").write_text("numpy==1.26 \\\n  ; python_version > '3'\n")
    (tmp_path / "limits.txt").write_text("scipy<2\n")
    file = tmp_path / "requirements.txt"
    file.write_text("# all\n-r nested/more.txt\n-c limits.txt\n./w/" + wheel.name + "\ntorch#1\n")
    found = read_requirements(["numpy==1.26 ; python_version > '3'", "scipy"], file, tmp_path)
    assert [each.line for each in found] == [
        "numpy==1.26 ; python_version > '3'",
        f"-c {tmp_path}/limits.txt",
        wheel.as_uri(),
        "torch#1",
        "scipy",
    ]
    assert found[1].content == "-c scipy<2"
    assert found[2].content.startswith(f"{wheel.name} ") and str(tmp_path) not in found[2].content


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-e .", "'-e .' changes after it is installed"),
        ("./folder", "is a folder, which changes"),
        ("./none.whl", "cannot read the requirement ./none.whl: No such file"),
        ("--index-url=http://me:secret@mirror/simple", "a requirement holds a login"),
        ("-r requirements.txt", "name themselves"),
    ],
)
def test_what_cannot_be_built_is_told_with_its_line(
    line: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    file = tmp_path / "requirements.txt"
    file.write_text(f"numpy\n{line}\n")
    with pytest.raises(ConfigError, match=message) as raised:
        read_requirements([], file, tmp_path)
    assert "secret" not in str(raised.value)
    assert "name themselves" in message or raised.value.problems[0].line == 2


def test_the_key_is_the_content(tmp_path: Path) -> None:
    requirements = [Requirement("numpy", "numpy")]
    wanted = Wanted("a", PYTHON, requirements)
    assert wanted.key == wanted._replace(name="b").key
    assert wanted.key == wanted._replace(requirements=[Requirement("other", "numpy")]).key
    others = {
        wanted._replace(interpreter=PYTHON._replace(version="3.12")).key,
        wanted._replace(interpreter=PYTHON._replace(platform="linux-aarch64")).key,
        wanted._replace(requirements=[Requirement("numpy", "numpy==1")]).key,
    }
    assert len({wanted.key, *others}) == 4
    place = [make_wheel(tmp_path / name, "tinypack", "1.0") for name in "ab"]
    contents = {read_requirements([str(wheel)], None, tmp_path)[0].content for wheel in place}
    assert len(contents) == 1
    place[0].write_bytes(b"another")
    assert read_requirements([str(place[0])], None, tmp_path)[0].content not in contents


def test_an_interpreter_is_asked_once(tmp_path: Path) -> None:
    cache = tmp_path / "cache/interpreters.json"
    own = find_interpreter(None, None, "", cache)
    assert (own.prefix, own.version) == (
        str(Path(sys.base_prefix).resolve()), f"{sys.version_info[0]}.{sys.version_info[1]}",
    )  # fmt: skip
    assert find_interpreter(sys.executable, None, "", cache) == own
    known = json.loads(cache.read_text())
    ((key, facts),) = known.items()
    cache.write_text(json.dumps({key: [*facts[:3], "/kept"]}))
    assert find_interpreter(sys.executable, None, "", cache).prefix == "/kept"
    with pytest.raises(ConfigError, match="there is no interpreter python2"):
        find_interpreter(None, "2.4", "/nowhere", cache)


def test_what_contradicts_itself_is_told_at_once(project: Path) -> None:
    (project / "run.yaml").write_text(
        "script: train.py\nenvironment:\n  python: {version: '3', interpreter_path: /p}\n"
        "  virtual_environment: /venv\n  pip: [numpy]\n"
    )
    said = hpcrun("submit", code=2).stderr
    assert "'3' is no version of Python (such as 3.11)" in said
    assert "an environment is either built of packages, or one that is there" in said


# -- a run ----------------------------------------------------------------------------------------


def test_a_run_in_an_environment_that_is_built_once(project: Path) -> None:
    (project / "run.yaml").write_text(
        "script: train.py\nenvironment: {name: tiny, requirements: requirements.txt}\n"
    )
    shown = hpcrun("render").stdout
    assert rooms(project) == []
    first = hpcrun("submit", "--follow")
    assert "building environment tiny" in first.stderr and "tinypack 1.0" in first.stdout
    (room,) = rooms(project)
    (built,) = listed(room)
    assert built.lock == ["tinypack==1.0"] and f"PATH={built.folder}/bin:$PATH" in shown
    assert Path(built.folder, "requirements.lock").read_text() == "tinypack==1.0\n"
    # A newer one is not taken before somebody asks for it.
    make_wheel(project / "wheels", "tinypack", "2.0")
    again = hpcrun("submit", "--follow")
    assert "building" not in again.stderr and "tinypack 1.0" in again.stdout
    # The same content from a script, by Azure ML's words, and from a .runconfig.
    environment = Environment.from_pip_requirements("other", "requirements.txt")
    config = ScriptRunConfig(".", "train.py", environment=environment)
    config.run_config.script = "train.py"
    config.run_config.save(name="tiny")
    text = (project / ".azureml/tiny.runconfig").read_text()
    assert "userManagedDependencies: false" in text
    assert built.folder in hpcrun("render", "-c", "tiny").stdout
    run = Experiment(Workspace.from_config(), "other").submit(config)
    run.wait_for_completion()
    assert [each.folder for each in listed(room)] == [built.folder]
    packages = run.get_details()["runDefinition"]["environment"]["packages"]
    assert packages["lock"] == ["tinypack==1.0"] and packages["key"] == built.key
    # Another content, and what differs.
    hpcrun("submit", "--follow", "--set", "environment.pip=[tinypack==2.0]")
    changes = {c["name"]: (c["a"], c["b"]) for c in told("diff", run.id, "@last")["values"]}
    assert changes["package tinypack"] == ("1.0", "2.0")
    # Without its environment a run cannot be submitted once more.
    Path(built.folder).rename(f"{built.folder}-gone")
    said = hpcrun("resubmit", run.id, code=8).stderr
    assert f"its environment, {built.folder}, is gone" in said


def test_a_build_that_fails_submits_nothing(project: Path) -> None:
    (project / "run.yaml").write_text(
        "script: train.py\nenvironment: {requirements: requirements.txt, pip: [tinypack==7]}\n"
    )
    said = hpcrun("submit", code=BuildError.exit_code).stderr
    assert " install ended with 1: " in said and "tinypack==7" in said
    (room,) = rooms(project)
    assert not listed(room) and not list(Path(room).glob(".build-*"))
    assert told("list") == []


def test_paths_of_a_file_are_relative_to_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "script: train.py\nenvironment: {pip: [./wheels/%s], requirements: no.txt}\n"
    (project / "run.yaml").write_text(text % "tinypack-1.0-py3-none-any.whl")
    said = hpcrun("explain", "-f", str(project / "run.yaml"), code=2).stderr
    assert f"cannot read the requirements {project}/no.txt: No such file" in said
    monkeypatch.chdir("/")
    config = ScriptRunConfig.load(project / "run.yaml")
    environment = config.environment
    assert isinstance(environment, Environment)
    assert environment.requirements == f"{project}/no.txt"
    assert environment.pip == [f"{project}/wheels/tinypack-1.0-py3-none-any.whl"]


UV = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH')}")


def test_uv_builds_where_it_knows_where_packages_are(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert UV is not None, "it is in the extra `test`"
    monkeypatch.setenv("PATH", f"{Path(UV).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("UV_INDEX", "https://none.invalid/simple")
    (project / "run.yaml").write_text(
        "script: train.py\nenvironment: {requirements: requirements.txt}\n"
    )
    # Its cache is nobody else's, and what it copies out of that would be so as well.
    monkeypatch.setenv("UV_CACHE_DIR", str(project.parent / "cache"))
    before = os.umask(0o077)
    try:
        hpcrun("-w", str(project.parent / "own"), "env", "build")
        os.umask(0o022)
        built = json.loads(hpcrun("env", "build", "--json").stdout)
    finally:
        os.umask(before)
    assert (built["builder"], built["lock"]) == ("uv", ["tinypack==1.0"])
    (module,) = Path(built["folder"]).glob("lib/*/site-packages/tinypack.py")
    assert module.stat().st_mode & 0o777 == 0o644
    assert "tinypack 1.0" in hpcrun("submit", "--follow").stdout
