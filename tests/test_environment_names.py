"""Environments by name and version, as Azure ML keeps them in a workspace."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpcrun import CondaDependencies, Environment, ScriptRunConfig, Workspace
from hpcrun.config import ContainerRegistry
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
    config = ScriptRunConfig(
        ".", "train.py", environment="mine:1", compute_target="test-cluster/main"
    )
    prepared = workspace.session.prepare(read_value(type(config.run_config), config.asked()))
    assert prepared.plan.launch.python == "/first/python"
    assert workspace.session.site(prepared.plan.target) is prepared.site, "it is read twice"


DAMAGES = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:40]),
    "another's": lambda file: file.write_text(file.read_text().replace('"torch"', '"other"')),
    "a list": lambda file: file.write_text("[1]"),
    "no text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
    "a later one": lambda file: file.write_text(file.read_text().replace('"pip"', '"pipp"')),
    "a number": lambda file: file.write_text(file.read_text().replace('"/own/python"', "[7]")),
}


def test_a_damaged_one_is_told_and_never_yields_to_the_sites(project: Path) -> None:
    sites = project / ".hpcrun/site_configs"
    sites.mkdir(parents=True)
    (sites / "lab.yaml").write_text(
        "schema_version: 1\nid: lab\ndefault_target: cpu\ntargets: {cpu: {}}\n"
        "environments: {torch: {interpreter_path: /site/python}}\n"
    )
    (project / "run.yaml").write_text("script: train.py\ncompute_target: lab\nenvironment: torch\n")
    workspace = Workspace.from_config()
    assert "/site/python train.py" in hpcrun("render").stdout
    Environment("torch", PythonSection("/own/python")).register(workspace)
    (file,) = (project / "ws").glob("users/*/environments/names/torch/1.json")
    whole = file.read_bytes()
    for damage in DAMAGES.values():
        damage(file)
        said = hpcrun("render", code=2).stderr
        assert f"run.yaml:3: the registered environment {file} is damaged" in said, said
        with pytest.raises(StoreError, match="is damaged, or of a later hpcrun"):
            Environment.get(workspace, "torch")
        file.write_bytes(whole)
    assert "/own/python train.py" in hpcrun("render").stdout
    assert "it has 1" in hpcrun("render", "--set", "environment=torch:2", code=2).stderr
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("planted")
    assert f"environment torch in {file.parent}: " in hpcrun("render", code=8).stderr


def test_labels_stand_for_a_version_and_can_be_moved(project: Path) -> None:
    workspace = Workspace.from_config()
    for place in ("first", "second", "third"):
        Environment("mine", PythonSection(f"/{place}/python")).register(workspace)
    Environment.label(workspace, "mine", 1, ["stable", "old"])
    assert Environment.get(workspace, "mine", label="stable").version == "1"
    Environment.label(workspace, "mine", "2", "stable")
    (project / "run.yaml").write_text("script: train.py\nenvironment: mine@stable\n")
    assert "environment\tmine:2\trun.yaml:2" in hpcrun("explain").stdout
    assert Environment.get(workspace, "mine", label="latest").version == "3"
    assert Environment.get(workspace, "mine", label="old").version == "1"
    said = hpcrun("explain", "--set", "environment=mine@stabel", code=2).stderr
    assert "'mine' with the label 'stabel' (did you mean `stable`?" in said
    with pytest.raises(ConfigError, match="'latest' is no label"):
        Environment.label(workspace, "mine", 1, ["latest"])
    with pytest.raises(StoreError, match=r"no environment 'mine', version 7 \(it has 1, 2, 3"):
        Environment.label(workspace, "mine", 7, ["new"])
    with pytest.raises(ConfigError, match="both say which 'mine' is meant"):
        Environment.get(workspace, "mine", 1, "stable")


REGISTERS = """\
import sys
from hpcrun import Environment, Workspace
workspace = Workspace.from_config()
for number in range(5):
    print(Environment("mine", modules=[f"{sys.argv[1]}-{number}"]).register(workspace).version)
"""


def test_of_those_who_register_at_once_each_has_a_version(project: Path) -> None:
    words = [sys.executable, "-c", REGISTERS]
    with (
        subprocess.Popen([*words, "a"], stdout=subprocess.PIPE, text=True) as one,
        subprocess.Popen([*words, "b"], stdout=subprocess.PIPE, text=True) as two,
    ):
        said = [process.communicate()[0].split() for process in (one, two)]
    assert sorted(int(version) for versions in said for version in versions) == [*range(1, 11)]


# -- Azure ML's other words -----------------------------------------------------------------------


def test_a_clone_shares_nothing(project: Path) -> None:
    workspace = Workspace.from_config()
    first = Environment("first", modules=["gcc"]).register(workspace)
    other = first.clone("other")
    other.modules.append("cuda")
    other.docker.base_image = "python"
    assert (other.name, other.version, first.modules) == ("other", None, ["gcc"])
    assert first.docker.base_image is None and Environment.list(workspace) == {"first": first}


def test_a_folder_holds_an_environment_as_azure_mls_does(tmp_path: Path) -> None:
    dependencies = CondaDependencies.create(conda_packages=["numpy=1.26"], pip_packages=["torch"])
    environment = Environment(
        "vision",
        PythonSection(conda_dependencies=dependencies),
        modules=["gcc"],
        environment_variables={"camelCase": "1"},
    )
    folder = environment.save_to_directory(tmp_path / "vision")
    assert {path.name for path in folder.iterdir()} == {
        "azureml_environment.json", "conda_dependencies.yml",
    }  # fmt: skip
    told = json.loads((folder / "azureml_environment.json").read_text())
    assert told["python"]["condaDependencies"]["dependencies"][0] == "numpy=1.26"
    assert Environment.load_from_directory(folder) == environment
    with pytest.raises(ConfigError, match="has an environment already"):
        environment.save_to_directory(folder)
    image = Environment.from_docker_image("image", "a/b:1", ContainerRegistry("lab.example"))
    assert Environment.load_from_directory(image.save_to_directory(folder, True)).docker == (
        image.docker
    )
    # Its conda file is the other one's still, which Azure ML would leave as well.
    assert (folder / "conda_dependencies.yml").exists()


OF_AZURE = """{
    "name": "theirs", "version": "7", "inferencingStackVersion": null,
    "environmentVariables": {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"},
    "python": {
        "userManagedDependencies": %s, "interpreterPath": "python",
        "condaDependenciesFile": null, "baseCondaEnvironment": null,
        "condaDependencies": {"name": "project_environment",
            "dependencies": ["python=3.8", {"pip": ["azureml-defaults"]}],
            "channels": ["anaconda", "conda-forge"]}
    },
    "docker": {
        "enabled": false, "baseImage": "mcr.microsoft.com/azureml/base:1", "baseDockerfile": null,
        "sharedVolumes": true, "shmSize": "2g", "arguments": [], "platform": {"os": "Linux"},
        "baseImageRegistry": {"address": null, "username": null, "password": null}
    },
    "spark": {"repositories": [], "packages": [], "precachePackages": true}, "r": null
}"""


NOT_HONOURED = (
    ('Dockerfile": null', 'Dockerfile": "FROM a"', "hpcrun builds no images"),
    ('Dockerfile": null', 'Dockerfile": null, "buildContext": {"path": "."}', "builds no images"),
    ('CondaEnvironment": null', 'CondaEnvironment": "theirs"', "conda environment 'theirs'"),
    ('"r": null', '"r": {"cranPackages": [{"name": "a"}]}', "nothing of the section r"),
)


@pytest.mark.parametrize("managed", [True, False])
def test_what_azure_ml_has_saved_is_read(managed: bool, tmp_path: Path) -> None:
    file = tmp_path / "azureml_environment.json"
    file.write_text(OF_AZURE % ("false" if managed else "true"))
    found = Environment.load_from_directory(tmp_path)
    assert (found.name, found.is_managed) == ("theirs", managed)
    config = ScriptRunConfig(".", "a.py", environment=found).run_config
    assert not config.uses_image
    dependencies = found.python.conda_dependencies
    if managed:
        assert dependencies is not None and dependencies.python_version == "3.8"
        assert dependencies.pip_packages == ["azureml-defaults"]
    else:
        assert (dependencies, found.python.interpreter_path) == (None, "python")
    text = file.read_text()
    for asked, instead, said in NOT_HONOURED:
        file.write_text(text.replace(asked, instead))
        if managed or "Conda" not in asked:
            with pytest.raises(ConfigError, match=said):
                Environment.load_from_directory(tmp_path)
    with pytest.raises(ConfigError, match=r"hpcrun builds no images, not of \./Dockerfile"):
        Environment.from_dockerfile("own", "./Dockerfile")


def test_an_environment_is_built_from_a_script(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace.from_config()
    wheel = make_wheel(project / "wheels", "tinypack", "1.0")
    url = Environment.add_private_pip_wheel(workspace, wheel)
    environment = Environment("own", pip=["--no-index", url])
    built = environment.build(workspace).wait_for_completion(show_output=True)
    assert built.status == "Succeeded" and Path(built.folder, "bin/python").exists()
    assert capsys.readouterr().out.startswith("tinypack @ file://")
    assert environment.build(workspace) == built
    with pytest.raises(ConfigError, match="environment empty has no packages"):
        Environment("empty").build(workspace)
    with pytest.raises(ConfigError, match=r"there is no wheel none\.whl"):
        Environment.add_private_pip_wheel(workspace, "none.whl")


def test_a_registry_is_put_before_the_image_and_takes_no_login(project: Path) -> None:
    (project / "run.yaml").write_text(
        "script: train.py\nenvironment:\n  docker:\n    base_image: a/b:1\n"
        "    runtime: apptainer\n    base_image_registry: {address: lab.example/}\n"
    )
    assert "docker://lab.example/a/b:1" in hpcrun("render").stdout
    login = "environment.docker.base_image_registry={address: a.example, password: secret}"
    said = hpcrun("render", "--set", login, code=2).stderr
    assert "a login for a registry would stand in the run history" in said
    assert "secret" not in said


def test_a_site_keeps_environments_for_everybody(project: Path) -> None:
    sites = project / ".hpcrun/site_configs"
    sites.mkdir(parents=True)
    (sites / "lab.yaml").write_text(
        "schema_version: 1\nid: lab\ndefault_target: cpu\ntargets: {cpu: {}}\n"
        "modules: {profiles: {torch: [cuda/12, torch/2.5]}}\n"
        "environments:\n"
        "  torch-2.5: {module_profile: torch, environment_variables: {MODE: fast}}\n"
        "  image: {image: python:3.12, runtime: apptainer, volumes: [/usr]}\n"
    )
    (project / "run.yaml").write_text(
        "script: train.py\ncompute_target: lab\nenvironment: torch-2.5\n"
    )
    shown = hpcrun("explain").stdout
    assert "environment\ttorch-2.5\trun.yaml:3" in shown and "module\tcuda/12" not in shown
    text = hpcrun("render").stdout
    assert "module load torch/2.5" in text and "export MODE=fast" in text
    assert "apptainer exec" in hpcrun("render", "--set", "environment=image").stdout
    said = hpcrun("render", "--set", "environment=torch-2.6", code=2).stderr
    assert "there is no environment 'torch-2.6' (did you mean `torch-2.5`" in said
    # One's own of the same name comes first.
    Environment("torch-2.5", PythonSection("/own/python")).register(Workspace.from_config())
    assert "/own/python train.py" in hpcrun("render").stdout
