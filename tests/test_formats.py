"""What earlier formats hold is read for ever; what a later hpcrun wrote is told, never misread."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

import hpcrun
from hpcrun import layout
from hpcrun.errors import StoreError
from hpcrun.layout import UserPaths
from hpcrun.store import FileStore, bundle, index, sealed
from hpcrun.store.hdf5 import HEAD, Head
from hpcrun.store.index import generation_path, open_generation
from hpcrun.store.sealing import seal, unseal
from hpcrun.store.users import login_of
from tests.golden_workspace import ACTIVE, ANSWERS, CHILD, EXPORT, IDS, SEALED, USER, answers

GOLDEN = sorted(Path(__file__).with_name("golden").glob("workspace_*"))
ME = login_of(os.getuid())


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def workspace(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that is this user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = tmp_path / "history"
    shutil.copytree(golden / "workspace", copy)
    (copy / "users" / USER).rename(copy / "users" / ME)
    return copy


def export_manifest(path: Path) -> Any:
    with tarfile.open(path) as opened:
        first = opened.extractfile(bundle.NAME)
        assert first is not None
        return json.load(first)


def expect_as_then(golden: Path, told: Any) -> None:
    """That commands tell what they told when the golden files were made."""
    then = json.loads((golden / ANSWERS).read_text())
    assert without_new_keys(told, then) == then


def without_new_keys(now: Any, then: Any) -> Any:
    """What is told now, of that which was told then: keys may come, and none goes."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {key: without_new_keys(now[key], then[key]) for key in now if key in then}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [without_new_keys(a, b) for a, b in zip(now, then, strict=True)]
    return now


def test_every_format_that_is_read_has_a_golden_file() -> None:
    """Who adds a format adds what the one before has written."""
    found: dict[str, set[int]] = {"run": set(), "index": set()}
    for path in (path for folder in GOLDEN for path in folder.rglob("*.h5")):
        head = Head.decode(path.read_bytes()[:HEAD], path)
        found[head.kind].add(head.format)
    assert found == {"run": set(sealed.READERS), "index": set(index.READERS)}
    settings = [json.loads((f / "workspace/workspace.json").read_text()) for f in GOLDEN]
    assert {value["format"] for value in settings} == set(layout.FORMATS)
    manifests = [export_manifest(folder / EXPORT) for folder in GOLDEN]
    assert {value["format"] for value in manifests} == set(bundle.FORMATS)
    newest = (max(sealed.READERS), max(index.READERS))
    assert newest == (sealed.FORMAT, index.FORMAT)


def test_an_earlier_workspace_tells_what_it_told(golden: Path, workspace: Path) -> None:
    expect_as_then(golden, answers(workspace, ME))
    own = UserPaths.of(str(workspace), ME)
    with open_generation(generation_path(own.indexes, 1)) as known:
        assert list(known.run_ids) == [CHILD, SEALED]
        rows = {row.record.run_id: row for row in known.rows([0, 1])}
    assert rows[CHILD].record.parent == ACTIVE and rows[SEALED].metrics["loss"].last == 1 / 10


def test_an_earlier_workspace_becomes_one_of_today(golden: Path, workspace: Path) -> None:
    """What is sealed again is of the newest format; nothing else can be told apart."""
    store = FileStore(workspace, ME)
    unseal(store.stored(store.paths(CHILD)))
    for run_id in IDS:
        path = seal(store.stored(store.paths(run_id)))
        assert Head.decode(path.read_bytes()[:HEAD], path).format == sealed.FORMAT
    expect_as_then(golden, answers(workspace, ME))


def test_an_earlier_export_is_taken_in(golden: Path, tmp_path: Path, workspace: Path) -> None:
    there = tmp_path / "there"
    done = run(there, "store", "import", str(golden / EXPORT))
    assert done.returncode == 0, done.stderr
    told = answers(there, ME)
    for of_run in told["runs"].values():
        assert of_run["show"]["imported"]["workspace"] == "/tmp/history"
        of_run["show"]["imported"] = None
    expect_as_then(golden, told)
    # Nothing here needs the site on which they ran.
    assert run(there, "archive", SEALED).returncode == 0
    assert "1.h5" in run(there, "store", "seal").stdout
    assert "here already" in run(workspace, "store", "import", str(golden / EXPORT)).stdout


def run(workspace: Path, *words: str) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "-m", "hpcrun", "-w", str(workspace), *words)
    return subprocess.run(words, capture_output=True, text=True)


def of_format(path: Path, number: int) -> None:
    """The same file, with another number in its head."""
    data = path.read_bytes()
    head = Head.decode(data[:HEAD], path)._replace(format=number, by="9.9")
    path.write_bytes(head.encode() + data[HEAD:])


def told_newer(done: subprocess.CompletedProcess[str]) -> None:
    """One sentence with the version that reads it."""
    (line,) = done.stderr.splitlines()
    assert f"format 2, by hpcrun 9.9; this hpcrun, {hpcrun.__version__}, reads up to 1" in line
    assert "use hpcrun 9.9 or later" in line and "damaged" not in line


def test_a_sealed_file_of_a_later_hpcrun(workspace: Path) -> None:
    """No older one, and no journal that is kept, is read in its place; others are listed."""
    store = FileStore(workspace, ME)
    path = seal(store.stored(store.paths(SEALED)))
    assert path.name.endswith(".1.h5")
    of_format(path, 2)
    for word in ("show", "metrics", "resubmit"):
        done = run(workspace, word, SEALED)
        assert (done.returncode, done.stdout) == (StoreError.exit_code, "")
        told_newer(done)
    listed = run(workspace, "list", "--children")
    told_newer(listed)
    assert listed.returncode == 0
    assert [line.split("\t")[0] for line in listed.stdout.splitlines()[1:]] == [CHILD, ACTIVE]


def test_journals_of_a_later_hpcrun(workspace: Path) -> None:
    request = workspace / "users" / ME / "active" / ACTIVE / "run.json"
    value = json.loads(request.read_text())
    request.write_text(json.dumps({**value, "format": 2, "hpcrun": "9.9"}))
    for word in ("show", "metrics", "logs"):
        done = run(workspace, word, ACTIVE)
        assert (done.returncode, done.stdout) == (StoreError.exit_code, "")
        told_newer(done)
    listed = run(workspace, "list", "--children")
    told_newer(listed)
    assert [line.split("\t")[0] for line in listed.stdout.splitlines()[1:]] == [CHILD, SEALED]


def test_a_workspace_of_a_later_hpcrun(workspace: Path) -> None:
    (workspace / "workspace.json").write_text('{"format": 2, "hpcrun": "9.9"}')
    before = sorted(workspace.rglob("*"))
    for words in (["list"], ["show", ACTIVE], ["store", "seal"], ["archive", ACTIVE]):
        done = run(workspace, *words)
        assert (done.returncode, done.stdout) == (StoreError.exit_code, "")
        told_newer(done)
    assert sorted(workspace.rglob("*")) == before
    (workspace / "workspace.json").write_text('{"format": "x"}')
    assert "'x' is no format" in run(workspace, "list").stderr


def test_an_index_of_a_later_hpcrun(golden: Path, workspace: Path) -> None:
    """It is passed over; what it knows of months that are over is looked for in their folders."""
    own = UserPaths.of(str(workspace), ME)
    store = FileStore(workspace, ME)
    seal(store.stored(store.paths(ACTIVE)))
    assert os.listdir(own.indexes) != ["g00000001.h5"]  # a mark: the month is closed
    shutil.copy(generation_path(own.indexes, 1), generation_path(own.indexes, 2))
    of_format(generation_path(own.indexes, 2), 2)
    for mark in Path(own.indexes).glob("2023-11.*"):
        mark.unlink()  # as who made the second generation has done
    expect_as_then(golden, answers(workspace, ME))
