"""Models: copies of a run's files, with versions and a record that is written once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcrun import Environment, Experiment, Model, Run, ScriptRunConfig, Workspace
from hpcrun.errors import StoreError
from hpcrun.metrics.models import read, register, versions
from tests.metrics_job import VERSIONS, Job, interpreter


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "history"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Workspace.from_config()


@pytest.fixture
def run(workspace: Workspace) -> Run:
    experiment = Experiment(workspace, "notes")
    with experiment.start_logging(outputs=False, snapshot_directory=None) as run:
        folder = Path(run.paths.outputs)
        (folder / "net/deep").mkdir(parents=True)
        (folder / "net/weights").write_bytes(b"weights")
        (folder / "net/deep/more").write_bytes(b"more")
        (folder / "one.pt").write_bytes(b"one")
    return Run.get(workspace, run.id)


def test_a_model_of_a_run(workspace: Workspace, run: Run, tmp_path: Path) -> None:
    first = run.register_model("net", "outputs/net", tags={"a": 1}, model_framework="PyTorch")
    assert (first.id, first.name, first.version, first.run_id) == ("net:1", "net", 1, run.id)
    assert [f.name for f in first.files] == ["net/deep/more", "net/weights"]
    assert first.files[1].sha256 == hashlib.sha256(b"weights").hexdigest()
    assert (first.tags, first.model_framework) == ({"a": "1"}, "PyTorch")
    second = run.register_model("net", "outputs/one.pt", description="one file")
    assert (second.version, [f.name for f in second.files]) == (2, ["one.pt"])
    assert run.record().models == ("net:1", "net:2")
    assert Model(workspace, "net").version == 2
    assert Model(workspace, "net", version=1).files == Model(workspace, id="net:1").files
    assert [m.id for m in Model.list(workspace)] == ["net:2", "net:1"]
    assert [m.id for m in Model.list(workspace, latest=True)] == ["net:2"]
    assert [m.id for m in Model.list(workspace, "net", tags={"a": "1"})] == ["net:1"]
    assert Model.list(workspace, run_id="other") == Model.list(workspace, "other") == []
    assert first.run is not None and first.run.id == run.id
    assert first.download(tmp_path / "there") == tmp_path / "there/net"
    assert (tmp_path / "there/net/deep/more").read_bytes() == b"more"
    with pytest.raises(StoreError, match="exists already"):
        first.download(tmp_path / "there")
    (tmp_path / "there/net/weights").write_bytes(b"earlier")
    with (tmp_path / "there/net/weights").open("rb") as loading:
        first.download(tmp_path / "there", exist_ok=True)
        assert loading.read() == b"earlier"  # another rank has what it has begun to read
    assert (tmp_path / "there/net/weights").read_bytes() == b"weights"
    # The copy is its own: neither the run's files nor the run are needed.
    Path(run.paths.outputs, "net/weights").write_bytes(b"changed")
    run.delete()
    assert (first.path / "net/weights").read_bytes() == b"weights"
    assert first.run is None


def test_a_model_of_local_files_and_the_default_path(workspace: Workspace, run: Run) -> None:
    Path("local.txt").write_text("local")
    model = Model.register(workspace, "local.txt", "local", properties={"p": "q"})
    assert (model.run_id, model.run, model.properties) == (None, None, {"p": "q"})
    run.upload_file("plain", "local.txt")
    assert run.register_model("plain").files[0].size == 5


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".a", "a\n", "x" * 256, "-a"])
def test_names_that_are_refused(run: Run, name: str) -> None:
    with pytest.raises(ValueError, match="is no name for a model"):
        run.register_model(name, "outputs/one.pt")


def test_what_is_not_there(workspace: Workspace, run: Run) -> None:
    with pytest.raises(StoreError, match=r"there is no file or folder .*outputs/absent"):
        run.register_model("net", "outputs/absent")
    with pytest.raises(StoreError, match="is no name for a file of a run"):
        run.register_model("net", "../../active")
    assert run.record().models == ()
    with pytest.raises(StoreError, match="no model 'net'"):
        Model(workspace, "net")
    run.register_model("net", "outputs/one.pt")
    with pytest.raises(StoreError, match=r"no model 'net:3' \(it has the versions 1\)"):
        Model(workspace, "net", version=3)


def test_an_id_names_a_version(workspace: Workspace, run: Run) -> None:
    for _ in range(2):
        run.register_model("net", "outputs/one.pt")
    assert Model(workspace, id="net:1").id == Model(workspace, "net:1").id == "net:1"
    for wrong in ("net:", "net:x", "net:-1", "net:1:1", "../net"):
        with pytest.raises(StoreError, match="there is no model"):
            Model(workspace, id=wrong)


RECORDS = ["", "3", "[]", "{}", '{"created": 1}', '{"created": 1, "files": [[1]]}']


@pytest.mark.parametrize("text", [*RECORDS, '{"created": 1, "files": [], "more": 1}'])
def test_a_damaged_record_is_told(workspace: Workspace, run: Run, text: str) -> None:
    (run.register_model("net", "outputs/one.pt").path.parent / "model.json").write_text(text)
    with pytest.raises(StoreError, match=r"model.json is damaged: it is no record of a model"):
        Model(workspace, "net")


def test_a_deleted_versions_number_is_not_given_again(workspace: Workspace, run: Run) -> None:
    for _ in range(2):
        run.register_model("net", "outputs/one.pt")
    Model(workspace, "net").delete()
    assert [m.version for m in Model.list(workspace)] == [1]
    assert run.register_model("net", "outputs/one.pt").version == 3


def test_two_who_register_at_once_get_two_versions(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    models = str(tmp_path / "models")
    barrier = threading.Barrier(8)
    errors: list[BaseException] = []

    def act() -> None:
        try:
            barrier.wait()
            for _ in range(5):
                register(models, "net", str(tmp_path / "file"), {})
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=act) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert versions(models, "net") == list(range(1, 41))
    assert all(len(read(models, "net", n).files) == 1 for n in range(1, 41))
    assert sorted(os.listdir(tmp_path / "models/net"), key=int) == [str(n) for n in range(1, 41)]


def test_versions_that_somebody_deletes_meanwhile_are_left_out(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for _ in range(30):
        Model.register(workspace, tmp_path / "file", "net")
    versions = Model.list(workspace)

    def delete() -> None:
        for model in versions:
            model.delete()

    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(delete)
        while not deleting.done():
            assert len(Model.list(workspace, latest=True)) <= 1
            Model.list(workspace)
        deleting.result()
    assert Model.list(workspace) == []


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a").write_bytes(b"a")
    (tmp_path / "folder/b").symlink_to(tmp_path / "absent")
    with pytest.raises(StoreError, match="cannot register model net"):
        register(str(tmp_path / "models"), "net", str(tmp_path / "folder"), {})
    assert os.listdir(tmp_path / "models/net") == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_script_registers_with_nothing_but_python(tmp_path: Path, version: str) -> None:
    executable = interpreter(version)
    if executable is None:
        pytest.skip(f"no Python {version} on this machine")
    record = tmp_path / "active/digits_1700000000_0123abcd"
    (tmp_path / "files/outputs").mkdir(parents=True)
    record.mkdir(parents=True)
    (tmp_path / "files/outputs/a").write_text("a")
    code = "from hpcrun.metrics import Run; run = Run.get_context()\n"
    code += "model = run.register_model('net', 'outputs/a'); print(model.id, model.run_id)"
    job = Job(tmp_path)
    told = job.python(code, python=executable, HPCRUN_RECORD=str(record)).stdout
    assert told == "net:1 digits_1700000000_0123abcd\n"
    assert read(str(tmp_path / "models"), "net", 1).files[0].size == 1
    silent = job.python(code.replace("print", "str"), HPCRUN_RECORD=str(record), status=1,
                        RANK="1", WORLD_SIZE="2")  # fmt: skip
    assert "NoneType" in silent.stderr
    assert versions(str(tmp_path / "models"), "net") == [1]


def test_a_job_registers_a_model(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "train.py").write_text(
        "from hpcrun import Run; run = Run.get_context()\n"
        "open('outputs/m', 'w').write('m')\n"
        "run.register_model('net', 'outputs/m', tags={'loss': 0.5})\n"
    )
    config = ScriptRunConfig(source, "train.py")
    environment = Environment("this")
    environment.python.interpreter_path = sys.executable
    config.run_config.environment = environment
    run = Experiment(workspace, "trained").submit(config)
    run.wait_for_completion(wait_post_processing=True)
    (model,) = Model.list(workspace, run_id=run.id)
    assert (model.id, model.tags) == ("net:1", {"loss": "0.5"})
    shown = subprocess.run(
        [sys.executable, "-m", "hpcrun", "show", run.id], capture_output=True, text=True
    )
    assert "model\tnet:1\n" in shown.stdout
