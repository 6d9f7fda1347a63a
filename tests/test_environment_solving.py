"""Environments that conda makes of a file, solved and installed from a channel in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from hpcrun import CondaDependencies, Environment, RunConfiguration, ScriptRunConfig, Workspace
from hpcrun.environments import solving
from hpcrun.environments.cache import MARKER, listed
from hpcrun.environments.packing import pack
from hpcrun.environments.specification import read_specification
from hpcrun.errors import BuildError, ConfigError
from hpcrun.workflow.environments import wanted_of
from tests.commands import hpcrun, told
from tests.conda_channel import PLACEHOLDER, add_package, add_python
from tests.wheels import make_wheel

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE_PACKAGES = f"lib/python{PYTHON}/site-packages"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose script imports a package of conda's and one of pip's."""
    pytest.importorskip("rattler", reason="py-rattler is not installed")
    folder, channel = tmp_path / "project", tmp_path / "channel"
    add_python(channel)
    publish(channel, "1.0")
    make_wheel(folder / "wheels", "tinypack", "1.0")
    (folder / "train.py").write_text(
        "import os, tinyconda, tinypack\n"
        "print('of', tinyconda.VERSION, tinypack.VERSION, os.environ['CONDA_PREFIX'])\n"
        "print(os.environ['MODE'], os.environ['OWN'])\n"
    )
    (folder / "environment.yml").write_text(
        f"name: mine\nchannels: ['{channel.as_uri()}', nodefaults]\n"
        "dependencies:\n  - tinyconda >=1\n"
        "  - pip: [--no-index, ./wheels/tinypack-1.0-py3-none-any.whl]\n"
        "variables: {MODE: of the file, OWN: of the file}\n"
    )
    (folder / "run.yaml").write_text(
        "script: train.py\nenvironment:\n  name: tiny\n"
        "  python: {conda_dependencies_file: environment.yml}\n"
        "  environment_variables: {OWN: of the run}\n"
    )
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    for name in ("CONDA_EXE", "MAMBA_EXE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder


def publish(channel: Path, version: str) -> None:
    files = {f"{SITE_PACKAGES}/tinyconda.py": f"VERSION = {version!r}\n"}
    add_package(channel, "tinyconda", version, files, depends=["python"])


def test_a_run_in_an_environment_of_a_file(project: Path) -> None:
    first = hpcrun("submit", "--follow")
    assert "building environment tiny" in first.stderr and "by py-rattler" in first.stderr
    (room,) = (project.parent / "ws").glob("users/*/environments")
    (built,) = listed(str(room))
    assert f"of 1.0 1.0 {built.folder}" in first.stdout
    assert "of the file of the run" in first.stdout
    python = ".".join(map(str, sys.version_info[:3]))
    assert built.lock[:2] == [f"python=={python}=0", "tinyconda==1.0=0"]
    assert built.lock[2].startswith("tinypack @ file://")
    assert built.requirements[:2] == [f"python={PYTHON}", "tinyconda >=1"]
    assert (built.marker["builder"], built.marker["python"]["version"]) == (
        "py-rattler+pip",
        PYTHON,
    )
    explicit = Path(built.folder, solving.EXPLICIT).read_text().splitlines()
    assert explicit[0] == "@EXPLICIT" and explicit[2].startswith(
        f"{(project.parent / 'channel').as_uri()}/noarch/tinyconda-1.0-0.tar.bz2#"
    )
    # Nothing in it is a link into a cache, whose change would change it.
    assert Path(built.folder, SITE_PACKAGES, "tinyconda.py").stat().st_nlink == 1
    assert sorted(path.name for path in room.iterdir() if ".build-" in path.name) == [
        Path(built.folder).readlink().name
    ]
    # A newer one is not taken before somebody asks for it.
    publish(project.parent / "channel", "2.0")
    again = hpcrun("submit", "--follow")
    assert "building" not in again.stderr and "of 1.0 1.0" in again.stdout
    assert json.loads(hpcrun("env", "build", "--rebuild", "--json").stdout)["lock"][1] == (
        "tinyconda==2.0=0"
    )
    run = Workspace.from_config().get_run(again.stdout.split()[2])
    packages = run.get_details()["runDefinition"]["environment"]["packages"]
    assert (packages["lock"], packages["key"]) == (built.lock, built.key)
    assert "tinyconda==1.0=0" in hpcrun("env", "show", f"{built.key}.1").stdout


def test_packed_it_runs_from_wherever_it_lies(project: Path) -> None:
    tells = "import sys, tinyconda\nprint(tinyconda.__file__, sys.prefix, *sys.argv[1:])\n"
    files = {
        "bin/tiny": f"#!{PLACEHOLDER}/bin/python\n{tells}",
        "bin/tiny-isolated": f"#!{PLACEHOLDER}/bin/python3 -I\n{tells}",
        "etc/tiny": PLACEHOLDER,
    }
    links = {"bin/python3": "python", "bin/linked": "tiny"}
    add_package(project.parent / "channel", "tinyscripts", "1.0", files, links, ["python"])
    asked = (project / "environment.yml").read_text()
    (project / "environment.yml").write_text(asked.replace("  - pip", "  - tinyscripts\n  - pip"))
    built = json.loads(hpcrun("env", "build", "--json").stdout)["folder"]
    root = str(Path(built).resolve())
    first, _, _ = Path(built, "bin/tiny").read_text().partition(tells)
    assert f"{root}/bin/python" in first  # in the second line where that is too long for a first
    pack(Path(built), str(project / "one.tar.gz"))
    there = project / "there"
    with tarfile.open(project / "one.tar.gz") as packed:
        packed.extractall(there, filter="tar")
    Path(root).rename(f"{root}.away")  # nothing is taken from where it was
    for script in ("tiny", "tiny-isolated", "linked"):
        words = [there / "bin" / script, "a b"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        file = there / SITE_PACKAGES / "tinyconda.py"
        assert (done.returncode, done.stdout) == (0, f"{file} {there} a b\n"), done.stderr
    assert (there / "etc/tiny").read_text() == root  # what holds the whole path finds it there


def test_where_nothing_installs_it_is_said_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rattler", None)  # as where the extra is not installed
    with pytest.raises(BuildError, match="no micromamba, mamba, conda or py-rattler here") as told:
        solving.find_tool({"PATH": ""})
    assert "pip install 'hpcrun-slurm[conda]'" in told.value.hint


def test_what_conda_cannot_solve_submits_nothing(project: Path) -> None:
    asked = (project / "environment.yml").read_text().replace("tinyconda >=1", "tinyconda >=7")
    (project / "environment.yml").write_text(asked)
    said = hpcrun("submit", code=BuildError.exit_code).stderr
    assert "py-rattler cannot install this: " in said and "tinyconda >=7" in said
    (room,) = (project.parent / "ws").glob("users/*/environments")
    assert not listed(str(room)) and not list(room.glob(".build-*"))
    assert told("list") == []


def test_the_key_is_what_the_file_says_and_not_where_it_lies(project: Path) -> None:
    environment = Environment.from_conda_specification("a", "environment.yml")
    wanted = wanted_of(environment, Path())
    (project / "other").mkdir()
    (project / "environment.yml").rename(project / "other/other.yml")
    (project / "wheels").rename(project / "other/wheels")
    moved = wanted_of(Environment.from_conda_specification("b", "other/other.yml"), Path("/"))
    assert moved.key == wanted.key
    dependencies = environment.python.conda_dependencies
    assert dependencies is not None
    keys = {wanted.key}
    dependencies.remove_pip_package("./wheels/tinypack-1.0-py3-none-any.whl")
    dependencies.set_pip_requirements([])
    for change in (
        lambda: dependencies.add_channel("conda-forge"),
        lambda: dependencies.set_python_version("3.9"),
        lambda: dependencies.add_conda_package("numpy"),
        lambda: dependencies.add_pip_package("scipy"),
    ):
        change()
        keys.add(wanted_of(environment, Path()).key)
    assert len(keys) == 5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("micromamba", "create --yes --quiet --always-copy -p /p -f /f"),
        ("mamba", "env create --quiet -p /p -f /f"),
        ("conda", "env create --quiet -p /p -f /f"),
    ],
)
def test_the_first_tool_that_is_there_installs(name: str, words: str, tmp_path: Path) -> None:
    for tool in solving.TOOLS[solving.TOOLS.index(name) :]:
        (tmp_path / tool).touch(0o755)
    found = solving.find_tool({"PATH": str(tmp_path)})
    assert found == (name, str(tmp_path / name))
    assert solving.words_of(*found, "/f", "/p") == (str(tmp_path / name), *words.split())
    variable = "CONDA_EXE" if name == "conda" else "MAMBA_EXE"
    assert solving.find_tool({"PATH": "", variable: str(tmp_path / name)}) == found


def test_a_conda_that_fails_is_told_in_its_own_words(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = project.parent / "bin/conda"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "LibMamba cannot: $*" >&2\ncat "$7" >&2\nexit 1\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    said = hpcrun("submit", code=BuildError.exit_code).stderr
    assert "conda create ended with 1: " in said and '"tinyconda >=1"' in said
    assert "nothing was submitted" in said
    (room,) = (project.parent / "ws").glob("users/*/environments")
    assert not list(room.glob(".build-*"))


# -- Azure ML's words -----------------------------------------------------------------------------


def test_dependencies_are_changed_by_azure_mls_words(tmp_path: Path) -> None:
    made = CondaDependencies.create(
        pip_indexurl="https://pip.example/simple",
        pip_packages=["torch==2.5", "numpy"],
        conda_packages=["scipy=1.11", "conda-forge::cudatoolkit"],
        python_version="3.10",
    )
    made.add_conda_package("scipy=1.12")
    made.add_pip_package("numpy>=2")
    made.remove_conda_package("cudatoolkit")
    made.add_channel("conda-forge")
    made.add_channel("conda-forge")
    made.add_channel("pytorch")
    made.remove_channel("pytorch")
    made.set_pip_option("--index-url https://other.example/simple")
    assert (made.conda_packages, made.python_version) == (["python=3.10", "scipy=1.12"], "3.10")
    assert made.pip_packages == ["torch==2.5", "numpy>=2"]
    assert made.pip_options == ["--index-url https://other.example/simple"]
    assert made.conda_channels == ["conda-forge"]
    made.set_pip_requirements(["jax"])
    made.set_python_version("3.12")
    text = made.serialize_to_string()
    assert text == (
        "channels:\n- conda-forge\ndependencies:\n- python=3.12\n- scipy=1.12\n"
        "- pip:\n  - --index-url https://other.example/simple\n  - jax\n"
    )
    file = made.save_to_file(tmp_path / "new")
    assert file == tmp_path / "new/conda_dependencies.yml"
    assert CondaDependencies.load(file) == made


def test_what_a_file_cannot_say_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "environment.yml"
    file.write_text("channels: [defaults]\ndependancies:\n- numpy\n")
    with pytest.raises(
        ConfigError, match=r"environment.yml:2: there is no key `dependancies` \(did"
    ):
        CondaDependencies.load(file)
    for channel in ("https://me:secret@conda.example", "https://conda.example/t/secret/main"):
        with pytest.raises(ConfigError, match="a channel holds a login") as raised:
            read_specification(CondaDependencies([channel]), None, "3.11")
        assert "secret" not in str(raised.value)


def test_what_contradicts_conda_dependencies_is_told_at_once(project: Path) -> None:
    (project / "run.yaml").write_text(
        "script: train.py\nenvironment:\n  virtual_environment: /venv\n  python:\n"
        "    version: '3.11'\n    interpreter_path: /p\n    conda_dependencies_file: a.yml\n"
        "    conda_dependencies: {dependencies: [python=3.10]}\n"
    )
    said = hpcrun("render", code=2).stderr
    for sentence in (
        "conda_dependencies and conda_dependencies_file both say what conda installs",
        "conda installs an interpreter of its own",
        "python.version and the dependencies both say which interpreter",
        "an environment is either built of packages, or one that is there",
    ):
        assert sentence in said, sentence
    npm = "environment.python={conda_dependencies: {dependencies: [{npm: [a]}]}}"
    said = hpcrun("render", "--set", npm, code=2).stderr
    assert "conda_dependencies.dependencies[0].npm`" in said


def test_registered_and_saved_it_is_the_same(project: Path) -> None:
    workspace = Workspace.from_config()
    environment = Environment("kept")
    environment.python.conda_dependencies_file = "environment.yml"
    kept = environment.register(workspace)
    assert kept.python.conda_dependencies_file is None
    assert Environment.get(workspace, "kept") == kept
    loaded = Environment.from_conda_specification("kept", "environment.yml")
    assert kept.python.conda_dependencies == loaded.python.conda_dependencies
    config = ScriptRunConfig(".", "train.py", environment=loaded)
    config.run_config.script = "train.py"
    config.run_config.save(name="kept")
    text = (project / ".azureml/kept.runconfig").read_text()
    assert "userManagedDependencies: false" in text and "condaDependencies:" in text
    again = RunConfiguration.load(".", "kept").environment
    assert isinstance(again, Environment) and again.python == loaded.python
    assert MARKER not in text


def test_azure_mls_switch_installs_nothing(project: Path) -> None:
    text = (project / "run.yaml").read_text()
    managed = text.replace("python: {", "python: {user_managed_dependencies: true, ")
    (project / "run.yaml").write_text(managed)
    shown = hpcrun("render").stdout
    assert "CONDA_PREFIX" not in shown and " python3 train.py" in shown
