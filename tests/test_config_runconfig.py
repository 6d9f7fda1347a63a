"""Azure ML's .runconfig files: read as they are, found by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcrun.config import (
    DistributedConfiguration,
    DockerConfiguration,
    DockerSection,
    Environment,
    HorovodConfiguration,
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    Resources,
    RunConfiguration,
    TensorflowConfiguration,
)
from hpcrun.config.environment import PythonSection
from hpcrun.config.runconfig import load_runconfig
from hpcrun.errors import ConfigError
from tests.azure_template import TEMPLATE, load, put


def problems(text: str, folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(text, folder)
    place = f"{folder}/.azureml/"
    return [str(problem).removeprefix(place) for problem in raised.value.problems]


# -- reading ------------------------------------------------------------------------------------


def test_the_template_of_azure_ml_is_read(tmp_path: Path) -> None:
    assert load(TEMPLATE, tmp_path) == RunConfiguration(
        script="train.py",
        compute_target="local",
        environment=Environment(
            "my-env",
            PythonSection("python"),
            environment_variables={"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"},
            docker=DockerSection(
                "mcr.microsoft.com/azureml/openmpi3.1.2-ubuntu18.04:20210513.v1", enabled=False
            ),
        ),
        docker=DockerConfiguration(),
        environment_variables={},
    )


def test_keys_are_read_in_camel_case_and_in_snake_case(tmp_path: Path) -> None:
    camel = """\
maxRunDurationSeconds: 60
environment:
  environmentVariables: {camelCase: a, snake_case: b}
  python: {userManagedDependencies: true, interpreterPath: /opt/python}
communicator: OpenMpi
mpi: {processCountPerNode: 4}
environmentVariables: {camelCase: c}
displayName: a name
resources: {gpusPerNode: 2, gpuType: a100}
"""
    snake = """\
max_run_duration_seconds: 60
environment:
  environment_variables: {camelCase: a, snake_case: b}
  python: {user_managed_dependencies: true, interpreter_path: /opt/python}
communicator: OpenMpi
mpi: {process_count_per_node: 4}
environment_variables: {camelCase: c}
display_name: a name
resources: {gpus_per_node: 2, gpu_type: a100}
"""
    config = load(camel, tmp_path)
    assert config == load(snake, tmp_path)
    assert config == RunConfiguration(
        max_run_duration_seconds=60,
        environment=Environment(
            python=PythonSection("/opt/python"),
            environment_variables={"camelCase": "a", "snake_case": "b"},
        ),
        distributed_job_config=MpiConfiguration(4),
        environment_variables={"camelCase": "c"},
        display_name="a name",
        resources=Resources(gpus_per_node=2, gpu_type="a100"),
    )


def test_spellings_of_the_service_are_read(tmp_path: Path) -> None:
    text = "{communicator: Gloo, pyTorch: {processCount: 4}, parallelTask: {}, amlCompute: {}}"
    assert load(text, tmp_path).distributed_job_config == PyTorchConfiguration("Gloo", 4)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("communicator: None\nmpi: {processCountPerNode: 4}\n", None),
        ("communicator:\n", None),
        ("communicator: OpenMpi\n", MpiConfiguration()),
        ("communicator: IntelMpi\nmpi: {processCountPerNode: 4}\n", MpiConfiguration(4)),
        ("communicator: openmpi\nnodeCount: 3\n", MpiConfiguration(node_count=3)),
        ("communicator: OpenMpi\nmpi: {nodeCount: 3}\n", MpiConfiguration(node_count=3)),
        ("communicator: OpenMpi\nmpi:\n", MpiConfiguration()),
        (
            "communicator: horovod\nnodeCount: 2\nhorovod: {processCountPerNode: 4}\n",
            HorovodConfiguration(4, 2),
        ),
        ("communicator: nccl\n", PyTorchConfiguration("Nccl")),
        (
            "communicator: Gloo\nnodeCount: 2\npytorch: {processCount: 8}\n",
            PyTorchConfiguration("Gloo", 8, 2),
        ),
        ("communicator: ParameterServer\n", TensorflowConfiguration()),
        (
            "communicator: ParameterServer\ntensorflow: {workerCount: 4, parameterServerCount: 0}",
            TensorflowConfiguration(4, 0),
        ),
        (
            "communicator: ParallelTask\nparalleltask: {taskCount: 4, workerCountPerNode: 2}",
            ParallelTaskConfiguration(4),
        ),
    ],
)
def test_the_communicator_decides_which_section_counts(
    text: str, made: DistributedConfiguration | None, tmp_path: Path
) -> None:
    assert load(text, tmp_path).distributed_job_config == made


def test_node_count_without_a_communicator_is_the_nodes_of_the_run(tmp_path: Path) -> None:
    assert load("nodeCount: 3\n", tmp_path).resources == Resources(node_count=3)
    assert load("nodeCount: 1\n", tmp_path).resources == Resources()


def test_arguments_are_kept_without_a_script_of_the_file(tmp_path: Path) -> None:
    assert load("arguments: [--lr, 1e-3]\n", tmp_path).arguments == ["--lr", "1e-3"]


@pytest.mark.parametrize(
    ("python", "interpreter"),
    [
        ("{userManagedDependencies: true, interpreterPath: python}", "python"),
        ("{interpreterPath: python}", "python"),
        ("{userManagedDependencies: false, interpreterPath: python}", None),
        ("{userManagedDependencies: true, condaDependenciesFile: x.yml}", None),
    ],
)
def test_the_interpreter_counts_unless_azure_ml_would_ignore_it(
    python: str, interpreter: str | None, tmp_path: Path
) -> None:
    made = load(f"environment: {{python: {python}}}\n", tmp_path).environment
    assert made == Environment(python=PythonSection(interpreter))


@pytest.mark.parametrize(
    ("python", "is_managed"),
    [
        ("userManagedDependencies: false, ", True),
        ("userManagedDependencies: , ", True),
        ("", True),
        ("userManagedDependencies: true, ", False),
    ],
)
@pytest.mark.parametrize(
    "conda", ["condaDependenciesFile: conda.yml", "condaDependencies: {dependencies: [numpy]}"]
)
def test_what_conda_installs_is_read_unless_nothing_is_to_be_installed(
    python: str, is_managed: bool, conda: str, tmp_path: Path
) -> None:
    text = f"script: a.py\nenvironment:\n  python: {{{python}interpreterPath: p, {conda}}}\n"
    environment = load(text, tmp_path).environment
    assert isinstance(environment, Environment)
    assert environment.is_managed == environment.is_of_conda == is_managed
    assert environment.python.interpreter_path == (None if is_managed else "p")


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = """\
scrpt: train.py
nodeCount: two
communicator: Mpich
environment:
  python: {interpretrPath: python}
maxRunDuration: 60
"""
    assert problems(text, tmp_path) == [
        "run.runconfig:1: there is no key `scrpt` (did you mean `script`?)",
        "run.runconfig:2: `node_count` must be a whole number, not 'two'",
        "run.runconfig:3: `communicator` cannot be 'Mpich' (did you mean `Mpi`?)",
        "run.runconfig:5: there is no key `environment.python.interpretrPath`"
        " (did you mean `environment.python.interpreter_path`?)",
        "run.runconfig:6: there is no key `maxRunDuration`"
        " (did you mean `max_run_duration_seconds`?)",
    ]


def test_what_azure_ml_would_do_and_hpcrun_does_not_is_refused(tmp_path: Path) -> None:
    text = """\
script: a.py
dataReferences: {train: {dataStoreName: main}}
outputData: {made: {}}
services: {tb: {type: TensorBoard}}
environment:
  python: {userManagedDependencies: false, baseCondaEnvironment: theirs}
  docker: {baseDockerfile: FROM a}
  databricks: {eggLibraries: [a]}
  r: {rVersion: null, cranPackages: []}
"""
    found = [problem.partition(" (")[0] for problem in problems(text, tmp_path)]
    assert found == [
        "run.runconfig:2: hpcrun has no datastores, which dataReferences names",
        "run.runconfig:3: hpcrun has no datastores, which outputData names",
        "run.runconfig:4: hpcrun starts none of services",
        "run.runconfig:6: hpcrun adds no packages to the conda environment 'theirs'",
        "run.runconfig:7: hpcrun builds no images",
        "run.runconfig:8: hpcrun installs nothing of the section databricks",
    ]


@pytest.mark.parametrize(
    "text", ["spark: " + "[" * 60 + "]" * 60, "spark: &s {a: *s}\n", "script: [\n", "- a\n"]
)
def test_a_file_that_cannot_be_read_is_refused(text: str, tmp_path: Path) -> None:
    assert len(problems(text, tmp_path)) == 1


# -- by name ------------------------------------------------------------------------------------


def test_a_file_is_found_by_its_name_in_the_folders_of_azure_ml(tmp_path: Path) -> None:
    put(tmp_path, "script: one.py\n", "one")
    (tmp_path / "aml_config").mkdir()
    (tmp_path / "aml_config/two.runconfig").write_text("script: two.py\n")
    (tmp_path / "three.runconfig").write_text("script: three.py\n")
    (tmp_path / "four.yml").write_text("script: four.py\n")
    for name in ("one", "two", "three", "one.runconfig", "four.yml"):
        made = RunConfiguration.load(tmp_path, name)
        assert made.script == f"{name.partition('.')[0]}.py"
        assert made.source_directory == str(tmp_path)


def test_a_name_that_is_not_there_is_met_with_the_nearest(tmp_path: Path) -> None:
    put(tmp_path, "{}", "cluster-gpu")
    put(tmp_path, "{}", "local")
    for name, hint in (
        ("cluster-gpuu", "did you mean `cluster-gpu`?"),
        ("zzz", "known are cluster-gpu, local"),
    ):
        for call in (RunConfiguration.load, RunConfiguration.delete):
            with pytest.raises(ConfigError) as raised:
                call(tmp_path, name)
            told = f"there is no .runconfig {name!r} in {tmp_path}/.azureml ({hint})"
            assert str(raised.value) == told


def test_delete_removes_the_file_of_that_name_only(tmp_path: Path) -> None:
    gone, kept = put(tmp_path, "{}", "gone"), put(tmp_path, "{}", "kept")
    RunConfiguration.delete(tmp_path, "gone")
    assert (gone.exists(), kept.exists()) == (False, True)


def test_paths_are_relative_to_the_project_folder_when_it_is_loaded_by_name(tmp_path: Path) -> None:
    put(
        tmp_path,
        """\
sourceDirectory: src
environment:
  virtualEnvironment: venv
  python: {userManagedDependencies: true, interpreterPath: bin/python}
secrets: {A: a, B: ~/b, C: /c}
""",
    )
    config = load_runconfig("run", tmp_path).sound().value
    assert config.source_directory == f"{tmp_path}/src"
    assert config.environment == Environment(
        python=PythonSection(f"{tmp_path}/bin/python"), virtual_environment=f"{tmp_path}/venv"
    )
    assert config.secrets == {"A": f"{tmp_path}/a", "B": "~/b", "C": "/c"}
