"""A workspace of another machine, as far as no other machine is needed; see
test_remote_api_cluster."""

from __future__ import annotations

import json
import os
import pickle
import random
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import pytest

from hpcrun import (
    Environment,
    HorovodConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    Requeue,
    Resources,
    RunConfiguration,
    ScriptRunConfig,
    Workspace,
)
from hpcrun.config import DataInput, load_config
from hpcrun.errors import (
    ConfigError,
    ForeignRun,
    HpcrunError,
    PlanError,
    RunNotFound,
    StoreError,
    TransportError,
)
from hpcrun.reading import read_value
from hpcrun.workflow.far_side import FILE, beside
from hpcrun.workflow.giving import MOST, Given, give
from hpcrun.workflow.line import answered


class Both:
    """A folder `there`, of which files are given to `here`."""

    def __init__(self, folder: Path) -> None:
        self.there, self.here = folder / "there", folder / "here"
        self.there.mkdir()
        self.here.mkdir()
        self.answers: list[int] = []

    def ask(self, words: Sequence[str], text: str) -> bytes:
        assert [*words] == ["give"]
        answer = b"".join(give(text))
        self.answers.append(len(answer))
        return answer

    def fetch(self, *names: str, basis: Path | None = None) -> Sequence[str]:
        apart = self.here.parent / "apart"
        return Given("far", self.ask).fetch(str(self.there), names, self.here, apart, basis)

    def is_same(self, name: str) -> bool:
        one, other = self.there / name, self.here / name
        same_time = one.stat().st_mtime_ns == other.stat().st_mtime_ns
        return one.read_bytes() == other.read_bytes() and same_time


@pytest.fixture
def both(tmp_path: Path) -> Both:
    return Both(tmp_path)


def test_of_a_file_that_grows_only_what_is_new_is_given(both: Both) -> None:
    log = both.there / "deep/log"
    log.parent.mkdir()
    log.write_bytes(random.Random(1).randbytes(1 << 20))
    assert both.fetch("deep/log") == [] and both.is_same("deep/log")
    for added in (b"", b"more\n", bytes(100), b"x" * 70_000):
        with log.open("ab") as file:
            file.write(added)
        assert both.fetch("deep/log") == [] and both.is_same("deep/log")
        assert both.answers[-1] < len(added) + 200


@pytest.mark.parametrize("text", ["", "short", "another of the same", "x" * 100, "y" * 200_000])
def test_a_file_that_was_written_anew_comes_whole(both: Both, text: str) -> None:
    (both.there / "file").write_text("one that was there" + "x" * 100)
    both.fetch("file")
    (both.there / "file").write_text(text)
    assert both.fetch("file") == [] and both.is_same("file")


def test_what_was_here_under_another_folder_is_taken(both: Both, tmp_path: Path) -> None:
    (both.there / "journal").write_bytes(random.Random(2).randbytes(300_000))
    both.fetch("journal")
    basis = both.here.rename(tmp_path / "basis")
    both.here.mkdir()
    with (both.there / "journal").open("ab") as file:
        file.write(b"more")
    assert both.fetch("journal", basis=basis) == [] and both.is_same("journal")
    assert both.answers[-1] < 1000 and (basis / "journal").stat().st_size == 300_000


def test_many_and_large_files_come_in_several_answers(both: Both) -> None:
    sizes = {"a": MOST // 2, "b": MOST + 5, "c": 3, "link": 0}
    for name, size in sizes.items():
        (both.there / name).write_bytes(random.Random(name).randbytes(size))
    (both.there / "link").unlink()
    (both.there / "link").symlink_to("c")
    assert both.fetch(*sizes) == [] and all(map(both.is_same, sizes))
    assert not (both.here / "link").is_symlink()
    assert len(both.answers) == 2 and max(both.answers) < MOST + 1000


def test_of_what_is_not_given_it_is_said_why(both: Both) -> None:
    (both.there / "good").write_text("good")
    os.mkfifo(both.there / "pipe")
    said = both.fetch("gone", "pipe", "good")
    assert len(said) == 2 and "No such file" in said[0] and "not a plain file" in said[1]
    assert [file.name for file in both.here.iterdir()] == ["good"]


@pytest.mark.parametrize(
    "answer", [b"", b"[]\n", b'["x", 0, 1, 1, "", 1]\nx', b'["a", 0, 9, 1, "", 9]\nless', b"{"]
)
def test_an_answer_that_is_none_is_refused(both: Both, answer: bytes) -> None:
    (both.there / "a").write_text("a")
    far = Given("far", lambda words, text: answer)
    with pytest.raises(TransportError, match="the other side gives"):
        far.fetch(str(both.there), ["a"], both.here, both.here.parent / "apart")
    assert [*both.here.iterdir()] == []


CONFIGS = [
    RunConfiguration(),
    ScriptRunConfig(".", "train.py", [1e-05, "007", "yes", "ü", "a: b", "", "1:30"]).asked(),
    ScriptRunConfig(
        "code",
        command=["python", "-c", "print('{}')"],
        compute_target="mila/long",
        distributed_job_config=PyTorchConfiguration(process_count=8, node_count=2),
        resources=Resources(gpus_per_node=4, time="1-12:00:00", memory="0"),
        requeue=Requeue(at_time_limit=True),
        environment=Environment("own", modules=["cuda/12.1"], environment_variables={"A": "$B"}),
        inputs={"data": DataInput("/data", "copy"), "more": "/more"},
        tags={"none": "null", "number": "1"},
        sbatch={"--exclusive": None, "--comment": "no"},
        private=False,
    ).asked(),
    ScriptRunConfig(
        ".", "a.py", distributed_job_config=HorovodConfiguration(node_count=2), environment="/venv"
    ).asked(),
    ScriptRunConfig(".", "a.py", distributed_job_config=ParallelTaskConfiguration(7)).asked(),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_what_python_asks_arrives_as_it_is(config: RunConfiguration, tmp_path: Path) -> None:
    asked = read_value(RunConfiguration, config).value
    file = tmp_path / FILE
    file.write_text(dict(beside(asked))[FILE])
    read = load_config(file)
    assert (read.value, read.problems) == (asked, ())
    # What nobody gave is not told to be given.
    assert "system_metrics_seconds" not in json.loads(file.read_text())


def test_a_list_of_packages_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lists").mkdir()
    needed = "-r more/all.txt  # of others\n-c ../out.txt\n-r none.txt\n-r https://x/y.txt\nnumpy\n"
    lists = {"needed.txt": needed, "more/all.txt": "-c ../needed.txt\n--constraint=top.txt\n"}
    for name, text in {**lists, "more/top.txt": "scipy<2\n", "../out.txt": ""}.items():
        (tmp_path / "lists" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "lists" / name).write_text(text)
    environment = Environment.from_pip_requirements("own", "lists/needed.txt")
    config = ScriptRunConfig(".", "a.py", environment=environment).asked()
    texts = dict(beside(config))
    told = json.loads(texts.pop(FILE))["environment"]
    assert told["requirements"] == "needed.txt"
    assert texts == {**lists, "more/top.txt": "scipy<2\n"}
    (tmp_path / "lists/conda.yml").write_text("dependencies: [numpy]\n")
    environment = Environment("own")
    environment.python.conda_dependencies_file = "lists/conda.yml"
    texts = dict(beside(ScriptRunConfig(".", "a.py", environment=environment).asked()))
    told = json.loads(texts.pop(FILE))["environment"]
    assert told["python"]["conda_dependencies_file"] == "conda.yml"
    assert texts == {"conda.yml": "dependencies: [numpy]\n"}


def test_an_error_there_is_the_same_error_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert answered(0, b"out", b"hpcrun: a note\n") == b"out"
    assert capsys.readouterr().err == "hpcrun: a note\n"
    for kind in (StoreError, RunNotFound, ForeignRun, TransportError, HpcrunError):
        with pytest.raises(HpcrunError, match=r"^it is so \(do that\)$") as caught:
            answered(kind.exit_code, b"", b"hpcrun: it is so (do that)\n")
        assert type(caught.value) is kind
    with pytest.raises(PlanError) as plan:
        answered(3, b"", b"hpcrun: one\nhpcrun: two\n")
    assert [problem.message for problem in plan.value.problems] == ["one", "two"]
    with pytest.raises(HpcrunError, match="exit code 143"):
        answered(143, b"", b"")


def test_naming_a_workspace_elsewhere_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HPCRUN_WORKSPACE", "mila:/scratch/lab")
    usual, named = Workspace("mila:"), Workspace.from_config()
    assert (repr(usual), usual.name) == ("Workspace('mila:')", "mila:")
    assert (repr(named), named.name) == ("Workspace('mila:/scratch/lab')", "lab")
    assert usual.path == tmp_path / "hpcrun/mirror/mila"
    assert named.path.parent == usual.path.parent and named.path != usual.path
    with pytest.raises(ConfigError, match="for the machine where the workspace mila: is"):
        _ = usual.environments
    usual.close()
    assert [*tmp_path.iterdir()] == []


def test_a_workspace_can_be_copied_and_sent_to_another_process() -> None:
    workspace = Workspace("far:/history")
    for copy in (pickle.loads(pickle.dumps(workspace)), deepcopy(workspace)):
        assert repr(copy) == repr(workspace) and copy.path == workspace.path
        assert copy.side is not workspace.side
