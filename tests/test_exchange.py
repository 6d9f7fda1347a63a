"""Runs move to another workspace: every command tells there what it told here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Run, Workspace
from hpcrun.errors import StoreError
from hpcrun.store.users import login_of
from tests.commands import answer
from tests.lab import eventually
from tests.test_seal import RUN_YAML, Here

TRAIN = """\
import os, pathlib, time
from hpcrun import Run

run = Run.get_context()
for step in range(5):
    run.log("loss", 1 / (step + 1), step=step)
run.log_table("table", {"x": [1, 2]})
pathlib.Path("dot.gif").write_bytes(b"GIF87a" + bytes(range(64)))
run.log_image("dot", path="dot.gif")
run.upload_file("weights", "dot.gif")
run.tag("kind", "baseline")
with run.child_run("fold") as child:
    child.log("score", 7)
outputs = pathlib.Path("outputs")
(outputs / "deep").mkdir()
(outputs / "deep/ünı code").write_text("deep")
(outputs / "deep" / ("long" * 40)).write_text("long")
(outputs / "empty").write_text("")
(outputs / "tool").write_text("#!/bin/sh")
(outputs / "tool").chmod(0o755)
with open(outputs / "sparse", "wb") as file:
    file.seek(3 << 20)
    file.write(b"x" * 100)
    file.truncate(1 << 26)
os.symlink("deep", outputs / "latest")
os.symlink(outputs.absolute() / "tool", outputs / "absolute")
os.symlink("latest/ünı code", outputs / "through")
os.symlink("../train.py", outputs / "source")
os.symlink("/etc/hostname", outputs / "outside")
os.symlink("nowhere", outputs / "dangling")
os.mkfifo(outputs / "pipe")
print("trained")
"""


class Quick(Here):
    """hpcrun in this process; the source folder must be the current one."""

    def json(self, *words: str) -> Any:
        return self.over(json.loads(answer(self.workspace, *words, "--json")), words)


class There(Quick):
    """Another workspace of the same person."""

    def __init__(self, here: Here) -> None:
        root = here.workspace.with_name("there")
        (root / "elsewhere").mkdir(parents=True)
        super().__init__(root / "elsewhere")
        self.source = here.source


def told(place: Here, run_id: str) -> Any:
    """What commands that read tell of a run, but where it lies and where it came from."""
    workspace = place.workspace
    run, report = (place.json(word, run_id) for word in ("show", "report"))
    for each in (run, report["run"]):
        del each["record"], each["files"], each["imported"]
    api = Run.get(Workspace(workspace), run_id)
    copies = [
        api.download_file(file.name).read_bytes() for file in api.get_files() if file.size < 1 << 20
    ]
    source = answer(workspace, "snapshot", run_id) if run["parent"] is None else None
    logs = place.run("logs", run_id).stdout
    return [run, report, api.get_metrics(), list(api.get_files()), copies, source, logs]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    here = Quick(tmp_path)
    monkeypatch.chdir(here.source)
    monkeypatch.setenv("XDG_CACHE_HOME", str(here.cache))
    (here.source / "train.py").write_text(TRAIN)
    (here.source / "run.yaml").write_text(RUN_YAML)
    return here


def test_a_run_tells_elsewhere_what_it_told_here(here: Here) -> None:
    run_id = here.json("submit", "--follow")["run_id"]
    here.run("files", "--check", run_id)  # takes the digests
    (child,) = here.json("show", run_id)["children"]
    before = {each: told(here, each) for each in (run_id, child)}
    file = here.workspace.with_name("runs.tgz")
    done = here.json("store", "export", run_id, "-o", str(file))
    assert {run["run_id"] for run in done["runs"]} == {run_id, child}
    assert done["bytes"] == file.stat().st_size < 1 << 20
    assert [note for note in done["notes"] if "2 links lead to nothing" not in note] == []
    there = There(here)
    assert there.json("list") == []
    shutil.move(here.workspace, here.workspace.with_name("gone"))
    taken = there.json("store", "import", str(file))
    assert {run["run_id"]: run["imported"] for run in taken} == {run_id: True, child: True}
    assert {each: told(there, each) for each in (run_id, child)} == before
    outputs = Path(there.json("show", run_id)["files"], "outputs")
    assert (outputs / "latest").readlink() == Path("deep") and os.access(outputs / "tool", os.X_OK)
    assert (outputs / "absolute").readlink() == Path("tool")
    assert (outputs / "sparse").stat().st_blocks * 512 < 1 << 20
    assert not {"outside", "dangling", "pipe"} & set(os.listdir(outputs))
    origin = there.json("show", run_id)["imported"]
    assert (origin["user"], origin["workspace"]) == (
        login_of(os.getuid()), str(here.workspace),
    )  # fmt: skip
    assert (
        f"imported\t{origin['user']}'s, from {here.workspace}" in there.run("show", run_id).stdout
    )
    assert there.run("list").stdout.split("\n")[0].endswith("\tfrom")
    # Once more nothing happens, whatever was said of it here.
    there.json("archive", run_id)
    assert [run["imported"] for run in there.json("store", "import", str(file))] == [False, False]
    # What goes on with a run there cannot go on here.
    assert there.run("resubmit", run_id).returncode == 7
    assert there.json("cancel", run_id)[0]["status"] == "Completed"
    assert there.run("collect", run_id).stdout == "nothing was left behind\n"
    assert [run["sealed"] is not None for run in there.json("store", "seal")] == [True]
    assert there.json("clean", run_id)["left"] == []
    # From there it goes on, and still tells whose it was first.
    onward = file.with_name("onward.tar")
    there.json("store", "export", run_id, "-o", str(onward))
    third = There(there)
    third.json("store", "import", str(onward))
    last = third.json("show", run_id)
    assert last["imported"]["workspace"] == str(here.workspace) and last["archived"]


def test_any_tar_unpacks_it(here: Here, tmp_path: Path) -> None:
    """Python's and GNU tar; holes stay holes."""
    run_id = here.json("submit", "--follow")["run_id"]
    files = Path(here.json("show", run_id)["files"])
    file = tmp_path / "runs.tar"
    here.json("store", "export", run_id, "-o", str(file))
    first = file.read_bytes()
    file.unlink()
    here.json("store", "export", run_id, "-o", str(file))
    assert file.read_bytes() == first and len(first) % 10240 == 0
    by_gnu, by_python = tmp_path / "gnu", tmp_path / "python"
    by_gnu.mkdir()
    subprocess.run(["tar", "-xf", str(file), "-C", str(by_gnu)], check=True)
    with tarfile.open(file) as opened:
        manifest = json.load(opened.extractfile(opened.next()))  # type: ignore[arg-type]
        opened.extractall(by_python, filter="data")
    assert manifest["format"] == 1 and len(manifest["runs"]) == 2
    for root in (by_gnu, by_python):
        copy = root / files.relative_to(here.own.root) / "outputs"
        for name in ("deep/ünı code", "deep/" + "long" * 40, "tool", "latest/ünı code"):
            assert (copy / name).read_bytes() == (files / "outputs" / name).read_bytes()
        assert (copy / "sparse").stat().st_size == 1 << 26
        assert (copy / "sparse").stat().st_blocks * 512 < 1 << 20
        with (copy / "sparse").open("rb") as sparse:
            sparse.seek(3 << 20)
            assert sparse.read(101) == b"x" * 100 + b"\0"


def test_what_goes_along_is_chosen(here: Here, tmp_path: Path) -> None:
    (here.source / "train.py").write_text(
        "open('outputs/a.ckpt', 'w').write('a' * 9)\nopen('outputs/b.txt', 'w').write('b')\n"
    )
    first, second = (here.json("submit", "--follow")["run_id"] for _ in range(2))
    here.json("archive", first)
    waiting = "import pathlib, time\nwhile pathlib.Path('wait').exists(): time.sleep(0.05)\n"
    (here.source / "train.py").write_text(waiting)
    (here.source / "wait").write_text("")
    goes_on = here.json("submit")["run_id"]

    def exported(*words: str) -> Any:
        (tmp_path / "some.tar").unlink(missing_ok=True)
        return here.json("store", "export", *words, "-o", str(tmp_path / "some.tar"))

    done = exported("-e", "seals", "--without", "outputs/*.ckpt")
    assert [(run["run_id"], run["left_out"]) for run in done["runs"]] == [(second, 1)]
    assert any(goes_on in note and "is left out: it is" in note for note in done["notes"])
    there = There(here)
    there.json("store", "import", str(tmp_path / "some.tar"))
    names = [file["name"] for file in there.json("files", second)]
    assert "outputs/b.txt" in names and "outputs/a.ckpt" not in names
    assert there.json("show", second)["imported"]["left_out"] == 1
    # The same run with more of it is another one.
    exported(second)
    refused = there.run("store", "import", str(tmp_path / "some.tar"))
    assert refused.returncode == StoreError.exit_code
    assert "there is such a run, with another outputs/a.ckpt" in refused.stderr
    assert {run["run_id"] for run in exported("-e", "seals", "--archived")["runs"]} == {
        first, second,
    }  # fmt: skip
    refused = here.run("store", "export", goes_on, "-o", str(tmp_path / "no.tar"))
    assert refused.returncode == StoreError.exit_code
    assert f"run {goes_on} cannot be exported: it is " in refused.stderr
    refused = here.run("store", "export", first, "-o", str(tmp_path / "some.tar"))
    assert "already" in refused.stderr and refused.returncode == StoreError.exit_code
    assert here.run("store", "export", "-o", str(tmp_path / "no.tar")).returncode == 2
    assert sorted(os.listdir(tmp_path)) == ["cache", "history", "some.tar", "source", "there"]
    wait = Path(here.json("show", goes_on)["files"], "wait")
    eventually(wait.exists)  # it is laid when the run begins
    wait.unlink()
    here.run("wait", goes_on)
