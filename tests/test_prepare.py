"""All that is wrong with a request is told at once: the file, the folder, the target."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcrun import ScriptRunConfig
from hpcrun.assets import Assets
from hpcrun.config import (
    Resources,
    RunConfiguration,
    load_config,
)
from hpcrun.config.runconfig import load_runconfig
from hpcrun.errors import ConfigError, PlanError
from hpcrun.reading import Read, read_value
from hpcrun.workflow.prepare import Prepared, prepare
from tests.make_plan import SITE

EIGHT = """\
script: nope.py
compute_target: lab/gpu
max_run_duration_seconds: 90000
tagz: {a: b}
environment_variables: {A-B: x}
sbatch: {time: 1h}
resources:
  time: soon
  memory: 5 apples
  gpus_per_node: 8
"""

TOLD = {
    "script": "there is no script nope.py in {folder} (script is relative to source_directory)",
    "max_run_duration_seconds": "a time limit of 1-01:00:00 asked of target lab/gpu, which gives at"
    " most 1-00:00:00 (above the limit a job waits for ever instead of failing)",
    "tagz": "there is no key `tagz` (did you mean `tags`?)",
    "A-B": "'A-B' is no name for an environment variable (letters, digits and _ only, no digit"
    " first)",
    "sbatch": "--time is hpcrun's own to write (say it in resources.time)",
    "time": "'soon' is no duration; write 90m, 1h30m, 12:00:00 or 1-12:00:00",
    "memory": "'5 apples' is no amount of memory; write 32G or 500M",
    "gpus_per_node": "8 GPUs per node asked of target lab/gpu, whose nodes have 4 (ask for fewer,"
    " or choose another target)",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a script, a virtual environment of sorts, and the site `lab`."""
    folder = tmp_path / "project"
    sites = folder / ".hpcrun/site_configs"
    sites.mkdir(parents=True)
    (sites / "lab.yaml").write_text(SITE)
    (folder / "train.py").write_text("")
    return folder


def of(asked: Read[RunConfiguration], folder: Path, run_id: str | None = None) -> Prepared:
    assets = Assets.of(folder, {"HOME": "/nonexistent"})
    return prepare(asked, folder.parent / "history", assets, run_id=run_id, folder=folder)


def problems(text: str, folder: Path, *overrides: str) -> list[str]:
    """What is told of a run.yaml, without the folder's name."""
    (folder / "run.yaml").write_text(text)
    with pytest.raises((ConfigError, PlanError)) as caught:
        of(load_config(folder / "run.yaml", overrides), folder)
    return [str(problem).replace(f"{folder}/run", "run") for problem in caught.value.problems]


# -- at once --------------------------------------------------------------------------------------


def test_eight_kinds_of_wrong_are_told_at_once_with_file_and_line(project: Path) -> None:
    (project / "run.yaml").write_text(EIGHT)
    done = subprocess.run(
        [sys.executable, "-m", "hpcrun", "submit"],
        cwd=project,
        env={**os.environ, "HPCRUN_WORKSPACE": str(project.parent / "history")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    lines = [1, 3, 4, 5, 6, 8, 9, 10]
    assert done.stderr.splitlines() == [
        f"hpcrun: run.yaml:{line}: {told.format(folder=project.resolve())}"
        for line, told in zip(lines, TOLD.values(), strict=True)
    ]
    assert not (project.parent / "history").exists()


def test_a_runconfig_tells_them_too(project: Path) -> None:
    folder = project / ".azureml"
    folder.mkdir()
    (folder / "run.runconfig").write_text(
        "script: nope.py\ntarget: lab/gpu\ntagz: {a: b}\ncommunicator: OpenMpi\n"
        "environmentVariables: {A-B: x}\nnodeCount: 9\nresources:\n  time: soon\n"
    )
    with pytest.raises(ConfigError) as caught:
        of(load_runconfig("run", project, ["resources.memory=501G"]), project)
    told = [(problem.file.rpartition("/")[2], problem.line) for problem in caught.value.problems]
    file = "run.runconfig"
    assert told == [*((file, n) for n in (1, 3, 5, 6, 8)), ("--set resources.memory", None)]


def test_a_value_made_in_python_tells_them_too(project: Path) -> None:
    config = ScriptRunConfig(
        project,
        "nope.py",
        compute_target="lab/gpu",
        max_run_duration_seconds=90000,
        environment_variables={"A-B": "x"},
        sbatch={"time": "1h"},
        resources=Resources(time="soon", memory="5 apples", gpus_per_node=8),
    )
    config.run_config.tagz = {"a": "b"}  # type: ignore[attr-defined]
    with pytest.raises(ConfigError) as caught:
        of(read_value(RunConfiguration, config.asked()), project)
    expected = {told.format(folder=project.resolve()) for told in TOLD.values()}
    assert {str(problem) for problem in caught.value.problems} == expected


def test_what_only_the_target_lacks_is_told_as_that(project: Path) -> None:
    (project / "run.yaml").write_text(
        "script: train.py\ncompute_target: lab\nresources: {gpus_per_node: 8, memory: 501G}\n"
    )
    with pytest.raises(PlanError) as caught:
        of(load_config(project / "run.yaml"), project)
    assert [problem.line for problem in caught.value.problems] == [3, 3]


def test_an_unknown_target_is_told_at_its_line_beside_the_rest(project: Path) -> None:
    text = "script: nope.py\ncompute_target: {name}\nresources: {{time: soon, gpus_per_node: 99}}\n"
    for name, said in (("lba", "there is no site 'lba'"), ("lab/x", "lab has no target 'x'")):
        told = problems(text.format(name=name), project)
        assert [line.split(":")[1] for line in told] == ["1", "2", "3"]
        assert said in told[1]


def test_an_empty_target_is_not_this_machine(project: Path) -> None:
    (told,) = problems("script: train.py\ncompute_target: ''\n", project)
    assert told.startswith("run.yaml:2: the target is empty")


def test_a_wrong_run_id_is_told_beside_the_rest(project: Path) -> None:
    (project / "run.yaml").write_text("script: nope.py\nexperiment: one\n")
    with pytest.raises(ConfigError) as caught:
        of(load_config(project / "run.yaml"), project, "two_1700000000_0123abcd")
    script, run_id = caught.value.problems
    assert "nope.py" in script.message and "of another experiment" in run_id.message


@pytest.mark.parametrize("run_id", ["foo", "", "one_1_0123abcd", "one_1700000000_xyz"])
def test_a_run_id_that_is_none_is_told_beside_what_the_target_lacks(
    run_id: str, project: Path
) -> None:
    text = "script: train.py\nexperiment: one\ncompute_target: lab\n"
    (project / "run.yaml").write_text(text + "resources: {gpus_per_node: 99}\n")
    with pytest.raises(ConfigError) as caught:
        of(load_config(project / "run.yaml"), project, run_id)
    gpus, told = caught.value.problems
    assert told.message == f"{run_id!r} is no run id" and "99 GPUs" in gpus.message


@pytest.mark.parametrize("path", ["~nobody-of-this-name/x", "a/" * 3000, "x" * 300, "train.py/x"])
def test_a_path_that_can_be_none_is_told_as_missing(path: str, project: Path) -> None:
    (source,) = problems(f"script: train.py\nsource_directory: {path}\n", project)
    assert source.startswith("run.yaml:2: there is no folder")
    text = f"script: {path}\nenvironment: {path}/\nsecrets: {{A: {path}}}\n"
    assert [told.split(":")[1] for told in problems(text, project)] == ["1", "2", "3"]


# -- and nothing that only follows ----------------------------------------------------------------

NCCL = """\
script: train.py
compute_target: lab
resources: {gpus_per_node: 4, gpu_type: a100}
distributed_job_config:
  kind: pytorch
  process_count: 8
  node_count: 1
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (NCCL.replace("node_count: 1", "node_count: 1\n  communication_backend: glo"), 8),
        (NCCL.replace("node_count: 1", "node_count: 1\n  communication_backnd: Gloo"), 8),
        (NCCL.replace("node_count: 1", "node_count: two"), 7),
        (NCCL.replace("node_count: 1", "nodes: 2"), 7),
        (NCCL.replace("node_count: 1", "node_count: 0"), 7),
        (NCCL.replace("gpus_per_node: 4", "gpus_per_node: four"), 3),
        (NCCL.replace("gpus_per_node: 4", "gpus: 8"), 3),
        (NCCL.replace("compute_target: lab", "compute_targt: lab"), 2),
        (NCCL.replace("compute_target: lab", "compute_target: [lab]"), 2),
        (NCCL.replace("kind: pytorch", "kind: torch"), 5),
        (NCCL.replace("process_count: 8", "process_count: 7\n  launcher: plain"), 6),
        (NCCL.replace("script: train.py", "scrpt: train.py").replace("8", "4"), 1),
        (NCCL.replace("script: train.py", "command: [[a]]").replace("8", "4"), 1),
    ],
)
def test_what_only_follows_from_something_wrong_is_not_told(
    text: str, line: int, project: Path
) -> None:
    if "process_count: 7" in text:
        text = text.replace("node_count: 1", "node_count: 2")
    (told,) = problems(text, project)
    assert told.startswith(f"run.yaml:{line}: ")


@pytest.mark.parametrize("key", ["account: {required: true}", "memory: {mode: required}"])
def test_what_the_site_wants_is_told_unless_an_unknown_key_may_be_it(
    key: str, project: Path
) -> None:
    site = project / ".hpcrun/site_configs/lab.yaml"
    site.write_text(SITE.replace("scheduler:\n", f"scheduler:\n  {key}\n"))
    text = "script: train.py\ncompute_target: lab\nresources: {%s: 1}\ntags: {a: [b]}\n"
    wanted, tag = problems(text % "gpus_per_node", project)
    assert wanted.startswith("run.yaml:3: lab wants a") and tag.startswith("run.yaml:4: ")
    unknown, tag = problems(text % "memry", project)
    assert "no key `resources.memry`" in unknown and tag.startswith("run.yaml:4: ")


# -- any file -------------------------------------------------------------------------------------

VALID = """\
source_directory: .
script: train.py
arguments: [--lr, 1e-3]
compute_target: lab/gpu
environment:
  name: torch
  python: {interpreter_path: python3}
  modules: [cuda/12.1]
  environment_variables: {OMP_NUM_THREADS: 4}
distributed_job_config:
  kind: pytorch
  communication_backend: gloo
  process_count: 8
  node_count: 2
  launcher: srun
resources:
  gpus_per_node: 4
  gpu_type: a100
  cpus_per_task: 8
  memory: 100G
  exclusive: false
  time: 12:00:00
max_run_duration_seconds: 3600
experiment: exp-1
tags: {a: 1}
environment_variables: {X: 0x10}
mail: {on: [end, FAIL], address: a@b.c}
sbatch: {switches: 2, contiguous: null}
snapshot: {max_bytes: 2G, max_files: 10}
"""

LINES = VALID.splitlines()
PIECES = (
    *("", " ", ":", "-", "[", "{", "}", "]", "0", "-1", "1e99", "null", "~", "true", "&a ", "*a"),
    *("99999999999999999999", "'", '"', "#", "\t", "\\", "!!set ", "<<: ", "\x00", "é", "\ud800"),
    *("pytorch", "mpi", "tensorflow", "local", "lab", "all", "0G", "9P", ".nan", "? ", "|", "1-1"),
    *("script", "command", "time", "node_count: 0", "kind", "resources", "\n", "\n  ", "%", "@"),
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A valid file after a few changes of its characters, words and lines."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        key, colon, value = line.partition(": ")
        start = draw(st.integers(0, len(line)))
        piece = draw(st.sampled_from(PIECES) | st.text(max_size=3))
        lines[at] = draw(
            st.sampled_from(
                [
                    line[:start] + piece + line[start:],
                    line[:start] + line[start + 1 :],
                    key + colon + piece,
                    piece + colon + value,
                    f"{line}\n{line}",
                    f"{line}\n{draw(st.sampled_from(LINES))}",
                    "",
                ]
            )
        )
    return "\n".join(lines)


def test_a_launcher_that_there_is_none_of_is_told_at_its_line(project: Path) -> None:
    (project / "run.yaml").write_text(
        "script: train.py\ndistributed_job_config:\n  kind: mpi\n  launcher: mpirum\n"
    )
    with pytest.raises(PlanError, match="there is no launcher 'mpirum'") as caught:
        of(load_config(project / "run.yaml"), project)
    (problem,) = caught.value.problems
    assert (problem.line, problem.hint) == (4, "did you mean `mpirun`?")


@given(text=mutated())
@settings(max_examples=150)
def test_any_file_is_a_run_or_refused_at_its_lines(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = tmp_path_factory.getbasetemp() / "any"
    sites = project / ".hpcrun/site_configs"
    sites.mkdir(parents=True, exist_ok=True)
    (sites / "lab.yaml").write_text(SITE)
    (project / "train.py").write_text("")
    file = project / "run.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        made = of(load_config(file), project)
    except (ConfigError, PlanError) as error:
        for problem in error.problems:
            assert problem.file == str(file) and problem.line is not None, problem
            assert 1 <= problem.line <= text.count("\n") + text.count("\r") + 2
    else:
        assert made.script.text
