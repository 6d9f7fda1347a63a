"""ScriptRunConfig: what Azure ML's constructor means, and what Python values it takes."""

from __future__ import annotations

import copy
import inspect
import pickle
import types
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.config import (
    Environment,
    Mail,
    MetricFiles,
    MpiConfiguration,
    PyTorchConfiguration,
    Resources,
    RunConfiguration,
    ScriptRunConfig,
    SnapshotLimits,
    TensorflowConfiguration,
    checked,
)
from hpcrun.errors import ConfigError
from hpcrun.reading import Read, check_value


def asked(src: ScriptRunConfig) -> RunConfiguration:
    return check_value(RunConfiguration, src.asked())


def problems(src: ScriptRunConfig) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        asked(src)
    return [str(problem) for problem in raised.value.problems]


# -- run_config ---------------------------------------------------------------------------------


def test_the_run_config_that_is_given_is_the_one_that_is_reached() -> None:
    run_config = RunConfiguration()
    assert ScriptRunConfig(".", "a.py", run_config=run_config).run_config is run_config


def test_the_example_of_azure_ml_is_taken() -> None:
    src = ScriptRunConfig(
        source_directory="src",
        script="train.py",
        arguments=["--lr", 0.1],
        compute_target="site/gpu",
        environment=Environment("e"),
        distributed_job_config=PyTorchConfiguration(process_count=4, node_count=2),
        max_run_duration_seconds=60,
    )
    assert asked(src) == RunConfiguration(
        source_directory="src",
        script="train.py",
        arguments=["--lr", "0.1"],
        compute_target="site/gpu",
        environment=Environment("e"),
        distributed_job_config=PyTorchConfiguration(process_count=4, node_count=2),
        max_run_duration_seconds=60,
    )
    assert (src.run_config.target, src.run_config.node_count) == ("site/gpu", 2)


def test_changes_of_run_config_are_seen() -> None:
    src = ScriptRunConfig(".", "a.py")
    src.run_config.target = "site/cpu"
    src.run_config.resources.time = "2h"
    src.run_config.communicator = "OpenMpi"
    src.run_config.node_count = 3
    assert src.compute_target == "site/cpu"
    assert asked(src) == RunConfiguration(
        script="a.py",
        compute_target="site/cpu",
        resources=Resources(time="2h"),
        distributed_job_config=MpiConfiguration(node_count=3),
    )


def test_changes_of_the_object_itself_are_seen() -> None:
    src = ScriptRunConfig(".", "a.py")
    src.script, src.arguments, src.source_directory = "b.py", [1], Path("x")
    src.compute_target = "site"
    src.tags = {"a": "b"}
    src.resources.qos = "low"
    assert asked(src) == RunConfiguration(
        source_directory="x",
        script="b.py",
        arguments=["1"],
        compute_target="site",
        tags={"a": "b"},
        resources=Resources(qos="low"),
    )
    assert src.run_config.target == "site"


def test_what_is_asked_is_a_copy() -> None:
    src = ScriptRunConfig(".", "a.py", resources=Resources(time="1h"), tags={"a": "b"})
    first = asked(src)
    src.asked().resources.time = "2h"
    src.run_config.resources.time = "3h"
    assert (first.resources.time, asked(src).resources.time) == ("1h", "3h")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compute_target", "site"),
        ("environment", Environment("e")),
        ("distributed_job_config", MpiConfiguration(2)),
        ("max_run_duration_seconds", 60),
    ],
)
def test_what_azure_ml_keeps_in_run_config_is_not_taken_beside_it_with_a_warning(
    name: str, value: Any
) -> None:
    with pytest.warns(
        UserWarning, match=f"run_config is given: {name} beside it is not used"
    ) as told:
        src = ScriptRunConfig(".", "a.py", run_config=RunConfiguration(), **{name: value})
    assert told[0].filename == __file__
    assert asked(src) == RunConfiguration(script="a.py")


def test_what_azure_ml_does_not_have_is_taken_beside_run_config_without_a_warning() -> None:
    run_config = RunConfiguration(compute_target="site")
    src = ScriptRunConfig(
        ".", "a.py", run_config=run_config, resources=Resources(time="1h"), experiment="e"
    )
    assert asked(src) == RunConfiguration(
        script="a.py", compute_target="site", resources=Resources(time="1h"), experiment="e"
    )


BASE = {"script": "base.py", "arguments": ["base"]}


@pytest.mark.parametrize(
    ("base", "given", "script", "arguments", "command"),
    [
        (BASE, {}, "base.py", ["base"], None),
        (BASE, {"script": "a.py"}, "a.py", ["base"], None),
        (BASE, {"arguments": ["a"]}, "base.py", ["a"], None),
        (BASE, {"arguments": []}, "base.py", [], None),
        (BASE, {"script": "a.py", "arguments": ["a"]}, "a.py", ["a"], None),
        (BASE, {"command": ["a", 1]}, None, None, ["a", "1"]),
        (BASE, {"command": "a && b"}, None, None, "a && b"),
        ({"command": ["base"]}, {}, None, None, ["base"]),
        ({"command": ["base"]}, {"script": "a.py"}, "a.py", None, None),
        ({"command": "base"}, {"command": ("a", Path("b"))}, None, None, ["a", "b"]),
    ],
)
def test_script_arguments_and_command_given_directly_win(
    base: dict[str, Any],
    given: dict[str, Any],
    script: str | None,
    arguments: list[str] | None,
    command: list[str] | str | None,
) -> None:
    run_config = RunConfiguration(**base)
    made = asked(ScriptRunConfig(".", run_config=run_config, **given))
    assert (made.script, made.arguments, made.command) == (script, arguments, command)
    assert run_config == RunConfiguration(**base)


def test_script_and_command_both_given_are_refused() -> None:
    (problem,) = checked(Read(asked(ScriptRunConfig(".", "a.py", command="b")), {})).problems
    assert str(problem) == "script and command are both given (keep one of them)"


def test_arguments_beside_a_command_are_refused() -> None:
    src = ScriptRunConfig(".", arguments=["a"], command="b")
    (problem,) = checked(Read(asked(src), {})).problems
    assert str(problem) == "arguments belong to a script (write them into the command)"


def test_every_attribute_of_a_run_configuration_can_be_given() -> None:
    given = set(inspect.signature(ScriptRunConfig).parameters) - {"run_config"}
    assert given - {"docker_runtime_config"} | {"docker"} == set(vars(RunConfiguration()))
    for name, value in {
        **{"description": "d", "display_name": "n", "secrets": {"A": "/a"}, "sbatch": {"x": None}},
        **{"mail": Mail(), "snapshot": SnapshotLimits("2G"), "environment_variables": {"A": "1"}},
        **{"metric_files": ["logs/m.csv", MetricFiles("logs/*")], "system_metrics_seconds": 5},
    }.items():
        config = asked(ScriptRunConfig(".", "a.py", **{name: value}))  # type: ignore[arg-type]
        assert config == RunConfiguration(script="a.py", **{name: value})  # type: ignore[arg-type]


def test_mappings_that_cannot_be_copied_are_taken() -> None:
    src = ScriptRunConfig(".", "a.py", tags=types.MappingProxyType({"a": "b"}))
    assert asked(src).tags == {"a": "b"}


def test_the_class_can_be_looked_at_copied_and_pickled() -> None:
    assert ScriptRunConfig.compute_target is not None
    assert {"compute_target", "resources"} <= {
        name for name, _ in inspect.getmembers(ScriptRunConfig)
    }
    src = ScriptRunConfig(".", "a.py", [1], compute_target="site")
    for twin in (copy.deepcopy(src), pickle.loads(pickle.dumps(src))):
        assert asked(twin) == asked(src)
        twin.run_config.target = "other"
        assert src.compute_target == "site"


def test_its_name_for_people_shows_what_runs() -> None:
    assert repr(ScriptRunConfig("src", "a.py")) == "ScriptRunConfig('src', 'a.py')"
    run_config = RunConfiguration(command=["a"])
    assert repr(ScriptRunConfig(Path("s"), run_config=run_config)) == "ScriptRunConfig('s', ['a'])"


# -- Python values ------------------------------------------------------------------------------


@given(st.lists(st.integers() | st.floats() | st.booleans()))
def test_numbers_in_arguments_are_their_text(numbers: list[Any]) -> None:
    assert asked(ScriptRunConfig(".", "a.py", numbers)).arguments == [str(n) for n in numbers]


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))))
def test_words_in_arguments_arrive_unchanged(words: list[str]) -> None:
    assert asked(ScriptRunConfig(".", "a.py", words)).arguments == words
    assert asked(ScriptRunConfig(".", command=words)).command == words


def test_paths_and_scalars_of_numpy_are_taken() -> None:
    src = ScriptRunConfig(
        Path("src"),
        Path("sub/a.py"),
        (Path("x y"), np.int64(3), np.float32(0.1), np.float64(1e-5), True),
        max_run_duration_seconds=np.int64(60),  # type: ignore[arg-type]
        environment=Path("/venv"),  # type: ignore[arg-type]
        secrets={"A": Path("/a")},  # type: ignore[dict-item]
    )
    made = asked(src)
    assert made == RunConfiguration(
        source_directory="src",
        script="sub/a.py",
        arguments=["x y", "3", "0.1", "1e-05", "True"],
        max_run_duration_seconds=60,
        environment="/venv",
        secrets={"A": "/a"},
    )
    assert type(made.max_run_duration_seconds) is int


def test_a_time_can_be_a_timedelta_whenever_it_is_set() -> None:
    for resources in (Resources(time=timedelta(hours=2)), Resources()):  # type: ignore[arg-type]
        src = ScriptRunConfig(".", "a.py", resources=resources)
        src.run_config.resources.time = timedelta(hours=2)  # type: ignore[assignment]
        assert asked(src).resources.time == "7200s"


def test_a_section_can_be_a_dictionary() -> None:
    src = ScriptRunConfig(".", "a.py", resources={"time": "2h"})  # type: ignore[arg-type]
    src.distributed_job_config = {"kind": "mpi", "node_count": 2}  # type: ignore[assignment]
    made = asked(src)
    assert (made.resources, made.distributed_job_config) == (
        Resources(time="2h"),
        MpiConfiguration(node_count=2),
    )


@pytest.mark.parametrize("backend", ["nccl", "NCCL", "Nccl"])
def test_the_backend_is_read_in_any_case(backend: str) -> None:
    config = PyTorchConfiguration(backend)  # type: ignore[arg-type]
    made = asked(ScriptRunConfig(".", "a.py", distributed_job_config=config))
    assert made.distributed_job_config == PyTorchConfiguration("Nccl")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"arguments": "--lr 1"}, "`arguments` must be a list, not '--lr 1' ([a, b])"),
    ({"arguments": {"--lr": 1}}, "`arguments` must be a list, not a mapping ([a, b])"),
    ({"arguments": ["a", None]}, "`arguments[1]` is empty (write '' for an empty text)"),
    ({"arguments": [["a"]]}, "`arguments[0]` must be a text, not a list"),
    ({"arguments": [b"a"]}, "`arguments[0]` must be a text or number, not a bytes"),
    ({"arguments": 5}, "`arguments` must be a list, not '5' ([a, b])"),
    ({"script": ["a.py"]}, "`script` must be a text, not a list"),
    ({"script": b"a.py"}, "`script` must be a text or number, not a bytes"),
    ({"script": None, "command": {"a": 1}}, "`command` must be a list or a text, not a mapping"),
    ({"source_directory": ["src"]}, "`source_directory` must be a text, not a list"),
    ({"compute_target": object()}, "`compute_target` must be a text or number, not an object"),
    ({"environment": Environment}, "`environment` must be a text or number, not a type"),
    ({"environment": Resources()}, "`environment` must be an Environment, not a Resources"),
    (
        {"distributed_job_config": Resources()},
        "`distributed_job_config` must be MpiConfiguration or HorovodConfiguration or"
        " PyTorchConfiguration or TensorflowConfiguration or ParallelTaskConfiguration,"
        " not a Resources",
    ),
    (
        {"distributed_job_config": "mpi"},
        "`distributed_job_config` must be a MpiConfiguration or a HorovodConfiguration or a"
        " PyTorchConfiguration or a TensorflowConfiguration or a ParallelTaskConfiguration,"
        " not 'mpi'",
    ),
    (
        {"distributed_job_config": MpiConfiguration(process_count_per_node="4")},  # type: ignore[arg-type]
        "`distributed_job_config.process_count_per_node` must be a whole number, not '4'",
    ),
    (
        {"distributed_job_config": PyTorchConfiguration("mpi")},  # type: ignore[arg-type]
        "`distributed_job_config.communication_backend` cannot be 'mpi' (known are Nccl, Gloo)",
    ),
    (
        {"max_run_duration_seconds": "1h"},
        "`max_run_duration_seconds` must be a whole number, not '1h'",
    ),
    (
        {"max_run_duration_seconds": 1.5},
        "`max_run_duration_seconds` must be a whole number, not '1.5'",
    ),
    ({"tags": ["a"]}, "`tags` must be a mapping, not a list ({a: b})"),
    ({"tags": {"a": None}}, "`tags.a` is empty (write '' for an empty text)"),
    ({"tags": {"a": {"b": 1}}}, "`tags.a` must be a text, not a mapping"),
    ({"environment_variables": {"A\0": "x"}}, "`environment_variables` holds a NUL character"),
    ({"mail": Mail(["ends"])}, "`mail.on[0]` cannot be 'ends' (did you mean `end`?)"),  # type: ignore[list-item]
    ({"resources": Resources(exclusive="yes")}, "`resources.exclusive` must be true or false"),  # type: ignore[arg-type]
    ({"metric_files": "logs/m.csv"}, "`metric_files` must be a list, not 'logs/m.csv'"),
    ({"metric_files": [Mail()]}, "`metric_files[0]` must be a MetricFiles, not a Mail"),
    ({"snapshot": 5}, "`snapshot` must be a SnapshotLimits, not '5'"),
]


@pytest.mark.parametrize(("given", "told"), WRONG)
def test_a_wrong_python_value_is_told_in_one_sentence(given: dict[str, Any], told: str) -> None:
    (problem,) = problems(ScriptRunConfig(**{"source_directory": ".", "script": "a.py", **given}))
    assert problem.startswith(told)


def test_all_wrong_python_values_are_told_at_once() -> None:
    src = ScriptRunConfig(".", "a.py", [None], tags=["a"], max_run_duration_seconds="1h")  # type: ignore[arg-type]
    src.run_config.mpi = MpiConfiguration(4)  # type: ignore[attr-defined]
    src.run_config.resources.gpus = 4  # type: ignore[attr-defined]
    assert problems(src) == [
        "`arguments[0]` is empty (write '' for an empty text)",
        "there is no key `resources.gpus` (did you mean `resources.gpus_per_node`?)",
        "`max_run_duration_seconds` must be a whole number, not '1h'",
        "`tags` must be a mapping, not a list ({a: b})",
        "there is no key `mpi` (known are source_directory, script, arguments, command,"
        " compute_target, environment, docker, distributed_job_config, preflight, resources,"
        " max_run_duration_seconds, stop, requeue, resume_from, checkpoints, inputs, outputs,"
        " after, experiment, display_name, description, tags, private, environment_variables,"
        " secrets, mail,"
        " working_directory, sbatch, snapshot, metric_files, system_metrics_seconds)",
    ]


def test_a_run_config_that_is_only_its_name_is_refused() -> None:
    with pytest.raises(ConfigError) as raised:
        ScriptRunConfig(".", "a.py", run_config="gpu").asked()  # type: ignore[arg-type]
    assert str(raised.value) == (
        "run_config must be a RunConfiguration, not a str"
        " (RunConfiguration.load reads a .runconfig by name)"
    )


@pytest.mark.parametrize(
    "made",
    [
        lambda: MpiConfiguration(2, 3),
        lambda: PyTorchConfiguration("Gloo", 4, 2, "srun"),
        lambda: TensorflowConfiguration(3, 0),
    ],
)
def test_a_distributed_configuration_is_taken_as_it_is(made: Callable[[], Any]) -> None:
    src = ScriptRunConfig(".", "a.py", distributed_job_config=made())
    assert asked(src).distributed_job_config == made()
    assert src.run_config.node_count == made().node_count


# -- load ---------------------------------------------------------------------------------------


def test_a_loaded_run_yaml_has_its_paths_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        """\
source_directory: src
script: a.py
environment:
  virtual_environment: ./venv
  python: {interpreter_path: bin/python}
secrets: {A: secret, B: ~/b, C: /c}
"""
    )
    made = asked(ScriptRunConfig.load(tmp_path / "run.yaml"))
    assert made == RunConfiguration(
        source_directory=f"{tmp_path}/src",
        script="a.py",
        environment=Environment(
            python=check_value(RunConfiguration, made).environment.python,  # type: ignore[union-attr]
            virtual_environment=f"{tmp_path}/venv",
        ),
        secrets={"A": f"{tmp_path}/secret", "B": "~/b", "C": "/c"},
    )
    assert made.environment.python.interpreter_path == f"{tmp_path}/bin/python"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("environment", "loaded"),
    [("./venv", "{}/venv"), ("../venv", "{}/../venv"), ("/venv", "/venv"), ("~/venv", "~/venv")],
)
def test_an_environment_that_is_a_folder_is_relative_to_the_file(
    environment: str, loaded: str, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text(f"script: a.py\nenvironment: {environment}\n")
    made = asked(ScriptRunConfig.load(tmp_path / "run.yaml"))
    assert made.environment == loaded.format(tmp_path)


def test_a_source_in_the_home_folder_stays_there(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("script: a.py\nsource_directory: ~/src\n")
    assert asked(ScriptRunConfig.load(tmp_path / "run.yaml")).source_directory == "~/src"


def test_loading_refuses_a_file_with_all_its_problems(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("scrpt: a.py\ntime: 2h\n")
    with pytest.raises(ConfigError) as raised:
        ScriptRunConfig.load(file)
    assert [problem.line for problem in raised.value.problems] == [1, 2]


@pytest.mark.parametrize(
    ("word", "said"), [("\ud800", "holds half a character"), ("a\0b", "holds a NUL character")]
)
def test_what_no_program_can_be_given_is_refused(word: str, said: str) -> None:
    src = ScriptRunConfig(".", "a.py", [word], environment_variables={"A": word})
    first, second = problems(src)
    assert said in first and said in second
