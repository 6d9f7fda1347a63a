"""run.yaml as a file: read whole, or refused with every problem at its line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.config import (
    Environment,
    HorovodConfiguration,
    Mail,
    MetricFiles,
    MpiConfiguration,
    PyTorchConfiguration,
    Resources,
    RunConfiguration,
    SnapshotLimits,
    TensorflowConfiguration,
    checked,
    load_config,
)
from hpcrun.config.environment import PythonSection
from hpcrun.errors import ConfigError
from hpcrun.reading import Finding, Origin, Read, read_partly

FULL = """\
source_directory: src
script: train.py
arguments: [--lr, 1e-3, --seed, 007, --flag, true, --when, 12:00:00, --none, null, "a b"]
compute_target: site/gpu
environment:
  name: torch
  virtual_environment: ~/venv
  python: {interpreter_path: python3}
  modules: [cuda/12.1, 2024.1]
  environment_variables: {OMP_NUM_THREADS: 4, FLAG: on, EMPTY: ''}
distributed_job_config:
  kind: PyTorch
  communication_backend: gloo
  process_count: 8
  node_count: 2
  launcher: srun
resources:
  gpus_per_node: 4
  gpu_type: a100
  cpus_per_task: 8
  memory: 0
  exclusive: false
  time: 12:00:00
  partition: 1
  account: 0123
max_run_duration_seconds: 3600
experiment: exp-1
display_name: A name
description: |
  Two
  lines
tags: {a: 1, b: 1.10, c: yes}
environment_variables: {X: 0x10}
secrets: {TOKEN: ~/token}
mail: {on: [end, FAIL], address: a@b.c}
sbatch: {switches: 2, contiguous: null, licenses: 'x:1'}
snapshot: {max_bytes: 2G, max_files: 10}
metric_files: [logs/*.jsonl, {pattern: outputs/m.csv, format: csv, prefix: '', step: epoch}]
system_metrics_seconds: 60
"""


def load(text: str | bytes, folder: Path, *overrides: str) -> RunConfiguration:
    file = folder / "run.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_config(file, overrides).sound().value


def problems(text: str | bytes, folder: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(text, folder, *overrides)
    return [str(problem).removeprefix(f"{folder}/") for problem in raised.value.problems]


def test_every_key_of_a_full_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    assert load(FULL, tmp_path) == RunConfiguration(
        source_directory="src",
        script="train.py",
        arguments=[
            *("--lr", "1e-3", "--seed", "007", "--flag", "true", "--when", "12:00:00"),
            *("--none", "null", "a b"),
        ],
        compute_target="site/gpu",
        environment=Environment(
            "torch",
            PythonSection("python3"),
            "~/venv",
            ["cuda/12.1", "2024.1"],
            {"OMP_NUM_THREADS": "4", "FLAG": "on", "EMPTY": ""},
        ),
        distributed_job_config=PyTorchConfiguration("Gloo", 8, 2, "srun"),
        resources=Resources(
            gpus_per_node=4,
            gpu_type="a100",
            cpus_per_task=8,
            memory="0",
            exclusive=False,
            time="12:00:00",
            partition="1",
            account="0123",
        ),
        max_run_duration_seconds=3600,
        experiment="exp-1",
        display_name="A name",
        description="Two\nlines\n",
        tags={"a": "1", "b": "1.10", "c": "yes"},
        environment_variables={"X": "0x10"},
        secrets={"TOKEN": "~/token"},
        mail=Mail(["end", "fail"], "a@b.c"),
        sbatch={"switches": "2", "contiguous": None, "licenses": "x:1"},
        snapshot=SnapshotLimits("2G", 10),
        metric_files=["logs/*.jsonl", MetricFiles("outputs/m.csv", "csv", "", "epoch")],
        system_metrics_seconds=60,
    )


def test_a_full_file_has_nothing_that_check_would_refuse(tmp_path: Path) -> None:
    assert wrong(load(FULL, tmp_path)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "---\n" + text + "...\n",
        lambda text: text.replace(": ", ":   ").replace("\n", "   # comment\n", 5),
        lambda text: "# comment\n\n\n" + text,
    ],
    ids=["CRLF", "BOM", "document marks", "blanks and comments", "comment above"],
)
def test_line_ends_marks_and_comments_change_nothing(change, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert load(change(FULL), tmp_path) == load(FULL, tmp_path)


def test_lines_are_counted_with_any_line_end(tmp_path: Path) -> None:
    for text in (
        "script: a\n\nscrpt: b\n",
        "script: a\r\n\r\nscrpt: b\r\n",
        "\ufeffscript: a\n\nscrpt: b",
    ):
        assert problems(text, tmp_path) == [
            "run.yaml:3: there is no key `scrpt` (did you mean `script`?)"
        ]


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# nothing yet\n", "resources:\nenvironment:\ntags:\n"]
)
def test_an_empty_file_asks_for_the_defaults(text: str, tmp_path: Path) -> None:
    assert load(text, tmp_path) == RunConfiguration()


def test_all_problems_of_a_file_are_told_at_once_with_line_and_hint(tmp_path: Path) -> None:
    text = """\
scrpt: train.py
arguments:
  - --epochs
  -
  - [1]
environment:
  modulse: [gcc]
  environment_variables: [A=1]
distributed_job_config:
  kind: mpii
resources:
  time: 2h
  gpus: 4
  gpus_per_node: four
  exclusive: yes
  time: 3h
partition: gpu
mail:
  on: [begin, ended]
max_run_duration_seconds: 1h
snapshot: 5G
"""
    assert problems(text, tmp_path) == [
        "run.yaml:1: there is no key `scrpt` (did you mean `script`?)",
        "run.yaml:4: `arguments[1]` is empty (write '' for an empty text)",
        "run.yaml:5: `arguments[2]` must be a text, not a list",
        "run.yaml:7: there is no key `environment.modulse` (did you mean `environment.modules`?)",
        "run.yaml:8: `environment.environment_variables` must be a mapping, not a list ({a: b})",
        "run.yaml:10: `distributed_job_config.kind` cannot be 'mpii' (did you mean `mpi`?)",
        "run.yaml:13: there is no key `resources.gpus` (did you mean `resources.gpus_per_node`?)",
        "run.yaml:14: `resources.gpus_per_node` must be a whole number, not 'four'",
        "run.yaml:15: `resources.exclusive` must be true or false, not 'yes' (true or false)",
        "run.yaml:16: `time` is given twice (first on line 12)",
        "run.yaml:17: there is no key `partition` (did you mean `resources.partition`?)",
        "run.yaml:19: `mail.on[1]` cannot be 'ended' (did you mean `end`?)",
        "run.yaml:20: `max_run_duration_seconds` must be a whole number, not '1h'",
        "run.yaml:21: `snapshot` must be a mapping, not '5G'",
    ]


def test_an_error_of_syntax_hides_the_rest_and_has_its_line(tmp_path: Path) -> None:
    (tab,) = problems("scrpt: a\nresources:\n\ttime: 2h\n", tmp_path)
    assert tab.startswith("run.yaml:3: not YAML: found character '\\t'")
    assert tab.endswith("(indent with spaces)")
    (bracket,) = problems("scrpt: a\narguments: [--epochs, 3\nscript: b\n", tmp_path)
    assert bracket.startswith("run.yaml:3: not YAML: expected ',' or ']'")
    assert bracket.endswith("(while parsing a flow sequence, from line 2)")


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"script: a\ndescription: Gr\xfc\xdfe\n", 2),
        ("script: a\n".encode("utf-16"), 1),
        (b"script: a\r\n\r\ntags: {a: \xff}\r\n", 3),
    ],
)
def test_a_file_in_another_encoding_is_refused_at_its_line(
    data: bytes, line: int, tmp_path: Path
) -> None:
    assert problems(data, tmp_path) == [f"run.yaml:{line}: not UTF-8 (save it as UTF-8)"]


def test_a_file_that_is_not_there_or_not_readable_is_told(tmp_path: Path) -> None:
    for file, told in (
        (tmp_path / "run.yaml", f"there is no file {tmp_path}/run.yaml (`hpcrun init` writes one)"),
        (tmp_path / "other.yaml", f"there is no file {tmp_path}/other.yaml"),
        (tmp_path, f"cannot read {tmp_path}: Is a directory"),
        (Path(os.devnull, "run.yaml"), "cannot read /dev/null/run.yaml: Not a directory"),
    ):
        with pytest.raises(ConfigError) as raised:
            load_config(file)
        assert str(raised.value) == told


def test_overrides_win_over_the_file_and_say_so(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("script: a.py\nresources: {time: 1h, qos: low}\n")
    overrides = ["resources.time=2h", "arguments=[--lr, 1e-3]", "script=b.py", "resources.qos="]
    read = load_config(file, [*overrides, "environment_variables.A=x=y"]).sound()
    assert read.value == RunConfiguration(
        script="b.py",
        arguments=["--lr", "1e-3"],
        resources=Resources(time="2h"),
        environment_variables={"A": "x=y"},
    )
    assert read.origins["resources.time"] == Origin("--set resources.time")
    too_long = read.problem(Finding("resources.time", "too long"))
    assert str(too_long) == "--set resources.time: too long"
    assert read.problem(Finding("resources.gpu_type", "m")).line == 2


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("resources.tme=2h", "there is no key `resources.tme` (did you mean `resources.time`?)"),
        ("time=2h", "there is no key `time` (did you mean `resources.time`?)"),
        ("resources.gpus_per_node=x", "`resources.gpus_per_node` must be a whole number, not 'x'"),
        ("arguments=--lr", "`arguments` must be a list, not '--lr' ([a, b])"),
        ("arguments[0]=a", "there is no key `arguments[0]` (did you mean `arguments`?)"),
    ],
)
def test_a_wrong_override_is_told_as_one(override: str, told: str, tmp_path: Path) -> None:
    assert problems("", tmp_path, override) == [f"--set {override.partition('=')[0]}: {told}"]


def test_aliases_and_merge_keys_are_read(tmp_path: Path) -> None:
    text = """\
environment:
  environment_variables: &vars {A: 1, B: 2}
environment_variables: {<<: *vars, B: 3}
display_name: &name long name
description: *name
"""
    config = load(text, tmp_path)
    assert config.environment_variables == {"A": "1", "B": "3"}
    assert config.description == "long name"


@pytest.mark.parametrize("text", ["tags: &t {a: *t}\n", "arguments: &a [*a]\n"])
def test_an_alias_to_its_own_parent_is_refused(text: str, tmp_path: Path) -> None:
    (told,) = problems(text, tmp_path)
    assert told == "run.yaml:1: nested more than 40 levels deep"


words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=10)


@given(st.lists(words, max_size=5), words)
def test_arguments_in_double_quotes_arrive_unchanged(arguments: list[str], value: str) -> None:
    text = (
        f"arguments: {json.dumps(arguments)}\nenvironment_variables: {{A: {json.dumps(value)}}}\n"
    )
    config = read_partly(RunConfiguration, text, "run.yaml").sound().value
    assert (config.arguments, config.environment_variables) == (arguments, {"A": value})


# -- what is wrong whatever the target is -------------------------------------------------------

SCRIPT = "script: train.py\n"


def wrong(config: RunConfiguration) -> list[str]:
    return [str(problem) for problem in checked(Read(config, {})).problems]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", ":1: neither script nor command is given (script: train.py)"),
        (SCRIPT + "command: [a]\n", ":2: script and command are both given (keep one of them)"),
        (
            "command: [a]\narguments: [b]\n",
            ":2: arguments belong to a script (write them into the command)",
        ),
        ("command: []\n", ":1: the command is empty"),
        ("command: ['', a]\n", ":1: the command is empty"),
        ("command: ' '\n", ":1: the command is empty"),
        *(
            (
                f"\nscript: {script}\n",
                f":2: the script {script} is outside of source_directory"
                " (name it relative to source_directory)",
            )
            for script in ("/a/train.py", "../train.py", "a/../../train.py", ".", "a/..")
        ),
        (
            SCRIPT + "resources: {node_count: 0}\n",
            ":2: `resources.node_count` is 0, and must be at least 1",
        ),
        (
            SCRIPT + "distributed_job_config: {kind: tensorflow, worker_count: 0}\n",
            ":2: `distributed_job_config.worker_count` is 0, and must be at least 1",
        ),
        (
            SCRIPT + "distributed_job_config: {kind: pytorch, process_count: 0}\n",
            ":2: `distributed_job_config.process_count` is 0, and must be at least 1",
        ),
        (
            SCRIPT
            + "distributed_job_config:\n  kind: pytorch\n  process_count: 3\n  node_count: 2\n",
            ":4: 3 processes cannot be spread evenly over 2 nodes"
            " (process_count counts the processes of all nodes together)",
        ),
        (
            SCRIPT + "distributed_job_config: {kind: mpi}\nresources: {node_count: 2}\n",
            ":3: 2 nodes in resources, and 1 in distributed_job_config"
            " (say it in distributed_job_config only)",
        ),
        (
            SCRIPT + "metric_files: [loss.csv]\n",
            ":2: the metric files 'loss.csv' are not below logs/ or outputs/ (logs/loss.csv)",
        ),
        (
            SCRIPT + "metric_files:\n- outputs/../m.csv\n",
            ":3: 'outputs/../m.csv' is no pattern of names (logs/**/events.out.tfevents.*)",
        ),
        (
            SCRIPT + "metric_files: [logs/train.log]\n",
            ":2: the name 'train.log' does not tell the format of these metric files"
            " ({pattern: logs/train.log, format: jsonl})",
        ),
        (
            SCRIPT + "system_metrics_seconds: -1\n",
            ":2: `system_metrics_seconds` is -1, and must be at least 0",
        ),
        (SCRIPT + "snapshot: {max_bytes: 500}\n", ":2: '500' needs a unit; write 500G or 500M"),
        (
            SCRIPT + "snapshot:\n  max_bytes: all\n",
            ":3: `snapshot.max_bytes` must be above 0 (write 1G or 500M)",
        ),
        (
            SCRIPT + "experiment: a/b\n",
            ":2: 'a/b' is no name for an experiment (begin with a letter or digit;"
            " letters, digits, _ and - only; at most 200)",
        ),
    ],
)
def test_a_contradiction_is_told_at_its_line(text: str, told: str) -> None:
    (problem,) = checked(read_partly(RunConfiguration, text, "f").sound()).problems
    assert str(problem) == "f" + told


def test_an_empty_list_of_arguments_beside_a_command_is_none() -> None:
    assert wrong(RunConfiguration(command="echo $X", arguments=[])) == []


@pytest.mark.parametrize(
    ("communicator", "made"),
    [
        ("OpenMpi", MpiConfiguration(node_count=3)),
        ("intelmpi", MpiConfiguration(node_count=3)),
        ("Horovod", HorovodConfiguration(node_count=3)),
        ("Nccl", PyTorchConfiguration("Nccl", node_count=3)),
        ("gloo", PyTorchConfiguration("Gloo", node_count=3)),
        ("ParameterServer", TensorflowConfiguration(3)),
        ("None", None),
    ],
)
def test_setting_the_communicator_keeps_the_number_of_nodes(
    communicator: str, made: object
) -> None:
    config = RunConfiguration(script="a.py")
    config.node_count = 3
    config.communicator = communicator
    assert (config.distributed_job_config, config.node_count) == (made, 3)
    config.node_count = 4
    assert (config.node_count, wrong(config)) == (4, [])


def test_setting_the_same_kind_of_communicator_keeps_the_processes() -> None:
    config = RunConfiguration(distributed_job_config=PyTorchConfiguration(process_count=8))
    config.communicator = "Gloo"
    assert config.distributed_job_config == PyTorchConfiguration("Gloo", process_count=8)


def test_a_communicator_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"there is no communicator 'ncl'.*did you mean `nccl`"):
        RunConfiguration().communicator = "ncl"
