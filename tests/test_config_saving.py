"""Azure ML's .runconfig files: written with everything else left in place."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hpcrun.config import (
    Environment,
    HorovodConfiguration,
    Mail,
    MetricFiles,
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    Resources,
    RunConfiguration,
    SnapshotLimits,
    TensorflowConfiguration,
)
from hpcrun.config.environment import PythonSection
from hpcrun.errors import ConfigError
from tests.azure_template import TEMPLATE, load, put


def comments(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("#")]


def changed_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    """(lines that are gone, lines that are new)"""
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


def save(config: RunConfiguration, folder: Path) -> str:
    return config.save(folder, "run").read_text(encoding="utf-8")


def test_a_new_file_holds_what_is_asked_in_camel_case_and_no_more(tmp_path: Path) -> None:
    config = RunConfiguration(
        script="train.py",
        arguments=["--lr", "1e-3", "a b"],
        environment=Environment("e", virtual_environment="/venv"),
        distributed_job_config=PyTorchConfiguration("Gloo", 4, 2),
        resources=Resources(time="2h", gpus_per_node=2, exclusive=True),
        tags={"a_b": "1"},
    )
    expected = """\
script: train.py
arguments:
- --lr
- "1e-3"
- a b
target: local
framework: PyTorch
communicator: Gloo
nodeCount: 2
environment:
  name: e
  python:
    userManagedDependencies: true
  virtualEnvironment: /venv
pytorch:
  communicationBackend: Gloo
  processCount: 4
  nodeCount: 2
resources:
  gpusPerNode: 2
  exclusive: true
  time: 2h
tags:
  a_b: "1"
"""
    assert save(config, tmp_path) == expected


def test_saving_what_was_loaded_changes_no_line_of_the_template_that_says_something(
    tmp_path: Path,
) -> None:
    after = save(load(TEMPLATE, tmp_path), tmp_path)
    assert changed_lines(TEMPLATE, after) == (["command: ''"], ["command:"])


def test_saving_keeps_every_comment_and_every_key_of_the_template(tmp_path: Path) -> None:
    config = load(TEMPLATE, tmp_path)
    config.arguments = ["--lr", "0.1"]
    config.target = "site/gpu"
    config.communicator = "OpenMpi"
    config.node_count = 2
    config.max_run_duration_seconds = 60
    config.tags = {"a": "b"}
    assert isinstance(config.environment, Environment)
    config.environment.python.interpreter_path = None
    config.environment.environment_variables["MORE"] = "1"
    config.resources.time = "2h"
    after = save(config, tmp_path)
    assert comments(after) == comments(TEMPLATE)
    gone, new = changed_lines(TEMPLATE, after)
    # `  nodeCount: 1` under mpi is gone as well; the one under pytorch is still there.
    assert gone == [
        *("arguments: []", "target: local", "communicator: None", "maxRunDurationSeconds:"),
        *("nodeCount: 1", "    interpreterPath: python", "command: ''"),
    ]
    assert new == [
        *("arguments:", "- --lr", '- "0.1"', "target: site/gpu", "communicator: OpenMpi"),
        *("maxRunDurationSeconds: 60", "nodeCount: 2", '    MORE: "1"', "    interpreterPath:"),
        *("  nodeCount: 2", "command:", "resources:", "  time: 2h", "tags:", "  a: b"),
    ]
    assert load(after, tmp_path) == config


def test_saving_twice_is_saving_once(tmp_path: Path) -> None:
    config = load(TEMPLATE, tmp_path)
    config.communicator = "Gloo"
    config.arguments = ["a"]
    once = save(config, tmp_path)
    assert save(config, tmp_path) == once


def test_what_is_no_longer_asked_is_emptied_and_its_comment_stays(tmp_path: Path) -> None:
    config = load(
        """\
script: a.py   # the script
target: local
arguments:
- a
- b
# the name
displayName: 'a name'   # shown
# limits
resources:
# how long
  time: 2h
# which
  qos: low   # low
# variables
environmentVariables:
  A: a
# of b
  B: b
# labels
tags:
  A: a   # first
# end
""",
        tmp_path,
    )
    config.arguments = config.display_name = config.tags = None
    config.resources.time = None
    config.environment_variables = {"B": "c"}
    after = save(config, tmp_path)
    assert after.startswith(
        """\
script: a.py   # the script
target: local
arguments:
# the name
displayName:    # shown
# limits
resources:
# how long
  time:
# which
  qos: low   # low
# variables
environmentVariables:
# of b
  B: c
# labels
tags:
"""
    )
    assert after.endswith("# end\n") and load(after, tmp_path) == config


def test_a_section_that_is_empty_or_in_braces_is_filled_and_the_comments_stay(
    tmp_path: Path,
) -> None:
    put(
        tmp_path,
        "# one\nresources:   # none\n# two\nmpi: {processCountPerNode: 2, other: 1}\n# three\n"
        "environment: {name: e, docker: {enabled: true}}\n# four\ntags: {a: b}\n# five\n",
    )
    config = RunConfiguration(
        environment=Environment("f"), resources=Resources(time="2h"), tags={"c": "d"}
    )
    text = save(config, tmp_path)
    assert comments(text) == ["# one", "# two", "# three", "# four", "# five"]
    assert "mpi: {processCountPerNode: 2, other: 1}\n" in text
    assert "  docker:\n    enabled: true\n" in text
    assert "resources:\n  time: 2h\n" in text and "tags:\n  c: d\n" in text


@pytest.mark.parametrize(
    "held",
    [
        "",
        "# only a comment\n",
        "{script: a.py, history: {outputCollection: true}}\n",
        '{"script": "a.py", "history": {"outputCollection": true}}',
        "script: &s a.py\nhistory: {x: *s}\n",
        "base: &b {A: a}\nenvironmentVariables: {<<: *b, C: d}\n".replace("base", "history"),
        "script: a.py",
        "script:\n  'a.py'\ndescription: |\n  two\n\n  lines\n\n# after\ntarget: x\n",
        "description: >-\n  folded\n  text\narguments:\n    - a\n    -   b\nspark:\n- {a: [1]}\n",
        "---\nscript: a.py\n...\n",
        "script: a.py\r\nhistory:\r\n  outputCollection: true\r\n",
        "\ufeffscript: a.py\n",
        "environment: {name: e, docker: {enabled: true}}\ncommand: ''\n",
        "maxRunDurationSeconds: 60\nmax_run: 1\n".replace("max_run:", "priority:"),
        "max_run_duration_seconds: 60\nnode_count: 2\n",
        "resources: {exclusive: 1}\nhistory: .nan\n",
    ],
)
def test_any_form_of_a_file_is_saved_over_and_keeps_the_keys_of_others(
    held: str, tmp_path: Path
) -> None:
    file = put(tmp_path, held)
    before = YAML(typ="safe", pure=True).load(held.lstrip("\ufeff")) or {}
    config = RunConfiguration(
        script="b.py",
        arguments=["x"],
        description="new",
        resources=Resources(exclusive=True),
        environment_variables={"C": "e"},
        max_run_duration_seconds=30,
    )
    config.save(tmp_path)
    meant = dataclasses.replace(config, compute_target="local")
    assert isinstance(meant.environment, Environment)
    if "name: e" in held:
        meant.environment = RunConfiguration.load(file).environment
    assert RunConfiguration.load(file) == meant
    after = YAML(typ="safe", pure=True).load(file.read_text())
    for key in ("history", "spark", "priority"):
        assert repr(after.get(key)) == repr(before.get(key))
    if "docker" in held:
        assert after["environment"]["docker"] == {"enabled": True}


def test_a_file_that_is_no_yaml_is_not_overwritten(tmp_path: Path) -> None:
    for text in ("script: [\n", "script: a\nscript: b\n"):
        file = put(tmp_path, text)
        with pytest.raises(ConfigError, match=str(file)):
            RunConfiguration().save(tmp_path)
        assert file.read_text() == text


def test_what_cannot_be_asked_is_not_saved(tmp_path: Path) -> None:
    config = RunConfiguration(arguments=[object()])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="must be a text or number, not an object"):
        config.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numbers_and_paths_are_saved_as_the_text_they_become(tmp_path: Path) -> None:
    config = RunConfiguration(script=Path("a.py"), arguments=[1, 0.5])  # type: ignore[arg-type,list-item]
    loaded = RunConfiguration.load(config.save(tmp_path))
    assert (loaded.script, loaded.arguments) == ("a.py", ["1", "0.5"])


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write .*run\.runconfig: Not a directory"):
        RunConfiguration().save(tmp_path / "file")


def test_saving_leaves_no_other_file_and_takes_a_name_with_its_ending(tmp_path: Path) -> None:
    file = RunConfiguration().save(tmp_path, "mine.runconfig")
    assert file == tmp_path / ".azureml/mine.runconfig"
    assert list(file.parent.iterdir()) == [file]


# -- load(save(x)) means x ----------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
words = texts | st.sampled_from(
    ["null", "~", "true", "1e-3", "007", "", "- a", "a: b", "a #b", "?"]
)
mappings = st.dictionaries(words, words, max_size=3)
counts = st.integers(1, 9)
launchers = st.sampled_from([None, "plain", "srun", "mpirun", "torchrun", "ours"])
mpis = st.sampled_from([None, "openmpi", "cray"])


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


distributed = maybe(
    st.builds(MpiConfiguration, counts, counts, launchers, mpis)
    | st.builds(HorovodConfiguration, maybe(counts), counts, launchers, mpis)
    | st.builds(
        PyTorchConfiguration, st.sampled_from(["Nccl", "Gloo"]), maybe(counts), counts, launchers
    )
    | st.builds(TensorflowConfiguration, counts, st.integers(0, 9))
    | st.builds(ParallelTaskConfiguration, counts, maybe(counts), counts)
)
configs = st.builds(
    RunConfiguration,
    source_directory=words,
    script=maybe(words),
    arguments=maybe(st.lists(words, min_size=1, max_size=4)),
    command=maybe(st.lists(words, min_size=1, max_size=3) | words.filter(bool)),
    compute_target=words,
    environment=st.builds(
        Environment,
        words.filter(bool),
        st.builds(PythonSection, maybe(words)),
        maybe(words),
        st.lists(words, max_size=2),
        mappings,
    ),
    distributed_job_config=distributed,
    resources=st.builds(
        Resources,
        gpus_per_node=maybe(counts),
        memory=maybe(words),
        exclusive=maybe(st.booleans()),
        time=maybe(words),
    ),
    max_run_duration_seconds=maybe(counts),
    experiment=maybe(words),
    description=maybe(words),
    tags=maybe(mappings),
    environment_variables=maybe(mappings),
    secrets=maybe(mappings),
    mail=maybe(
        st.builds(Mail, st.lists(st.sampled_from(["end", "fail"]), max_size=2), maybe(words))
    ),
    sbatch=maybe(st.dictionaries(words, maybe(words), max_size=3)),
    snapshot=st.builds(SnapshotLimits, words, counts),
    metric_files=maybe(
        st.lists(words | st.builds(MetricFiles, words, prefix=maybe(words)), max_size=2)
    ),
    system_metrics_seconds=counts,
)


def same(one: RunConfiguration, other: RunConfiguration) -> bool:
    """Whether two mean the same: no items are no list, and no target is the local one."""

    def meaning(config: RunConfiguration) -> dict[str, Any]:
        config.compute_target = config.compute_target or "local"
        return {n: None if v in ([], {}) else v for n, v in vars(config).items()}

    return meaning(one) == meaning(other)


@given(configs)
@settings(max_examples=30)
def test_what_is_saved_in_a_new_file_reads_back(config: RunConfiguration) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert same(RunConfiguration.load(config.save(folder)), config)


@given(configs)
@settings(max_examples=30)
def test_what_is_saved_over_the_template_reads_back_and_keeps_its_comments(
    config: RunConfiguration,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder), TEMPLATE)
        file = config.save(folder)
        text = file.read_text(encoding="utf-8")
        assert same(RunConfiguration.load(file), config)
    assert [line for line in comments(text) if line in TEMPLATE] == comments(TEMPLATE)


@given(configs, configs)
@settings(max_examples=30)
def test_what_is_saved_over_another_configuration_leaves_nothing_of_it(
    first: RunConfiguration, second: RunConfiguration
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first.save(folder)
        assert same(RunConfiguration.load(second.save(folder)), second)


@pytest.mark.parametrize("environment", ["/venv", "./venv", "~/venv"])
def test_an_environment_that_is_a_folder_is_saved_as_one(environment: str, tmp_path: Path) -> None:
    loaded = RunConfiguration.load(RunConfiguration(environment=environment).save(tmp_path))
    assert loaded.environment == Environment(environment, virtual_environment=environment)
