"""Whose folder is whose in a workspace, and what readers make of what others put there."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hpcrun.errors import RunNotFound, StoreError
from hpcrun.layout import RunPaths
from hpcrun.store import FileStore
from hpcrun.store.users import is_theirs, own_name
from hpcrun.workflow.files import files_on_disk
from tests.commands import hpcrun
from tests.ordinary_user import needs_root

UID = os.getuid()
LOGIN = pwd.getpwuid(UID).pw_name
NOBODY = 65534
GROUP = NOBODY if UID == 0 else max(os.getgroups())
RUN_ID = "digits_1700000000_0123abcd"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "history"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "history"


@pytest.fixture
def store(workspace: Path) -> FileStore:
    store = FileStore(workspace, own_name(workspace))
    store.prepare()
    return store


def record_a_run(store: FileStore, run_id: str = RUN_ID, **more: Any) -> RunPaths:
    """A run as it stands before its submission."""
    request = {
        "run_id": run_id,
        "experiment": "digits",
        "user": store.user,
        "target": "local",
        "created": 1700000000.0,
        **more,
    }
    return store.create(request, "#!/bin/bash\n")


# -- names --------------------------------------------------------------------------------------


def take(folder: Path) -> None:
    """Something of somebody else's in place of this user's folder; as root, really another's."""
    folder.parent.mkdir(parents=True)
    if UID == 0:
        folder.mkdir()
        os.chown(folder, NOBODY, -1)
    else:
        folder.symlink_to("elsewhere")


def test_the_name_is_the_login_unless_it_is_taken(workspace: Path) -> None:
    assert own_name(workspace) == LOGIN
    (workspace / "users" / LOGIN).mkdir(parents=True)
    assert own_name(workspace) == LOGIN
    (workspace / "users" / LOGIN).rmdir()
    (workspace / "users" / LOGIN).symlink_to(workspace)
    assert own_name(workspace) == f"{LOGIN}-{UID}"


def test_many_begin_at_once_in_a_new_workspace(tmp_path: Path) -> None:
    """Each finds the same name, and the folder of all as it stays, made by whichever was first."""
    clients, before = 8, os.umask(0o002)
    at_once = threading.Barrier(clients)

    def begin(workspace: Path) -> str:
        at_once.wait()
        name = own_name(workspace)
        FileStore(workspace, name).prepare()
        return name

    try:
        with ThreadPoolExecutor(clients) as pool:
            for number in range(100):
                workspace = tmp_path / str(number)
                workspace.mkdir(mode=0o775)
                os.chown(workspace, -1, GROUP)
                assert {*pool.map(begin, [workspace] * clients)} == {LOGIN}
                assert {path.name for path in workspace.iterdir()} == {"users", "workspace.json"}
                users = (workspace / "users").stat()
                assert (users.st_gid, users.st_mode & 0o7777) == (GROUP, 0o3775)
    finally:
        os.umask(before)


@needs_root
def test_a_folder_of_the_second_name_that_is_anothers_is_refused(workspace: Path) -> None:
    take(workspace / "users" / LOGIN)
    (workspace / f"users/{LOGIN}-{UID}").mkdir()
    os.chown(workspace / f"users/{LOGIN}-{UID}", NOBODY, -1)
    with pytest.raises(StoreError, match=f"{LOGIN}-{UID} belongs to"):
        FileStore(workspace, own_name(workspace)).prepare()


def test_a_whole_run_under_the_second_name(workspace: Path) -> None:
    take(workspace / "users" / LOGIN)
    Path("train.py").write_text("from hpcrun import Run\nRun.get_context().log('loss', 1)\n")
    text = f"script: train.py\nexperiment: line\ntags: {{of: {LOGIN}}}\n"
    Path("run.yaml").write_text(text)
    hpcrun("submit", "--follow")
    (run,) = json.loads(hpcrun("list", "--json").stdout)
    assert run["user"] == f"{LOGIN}-{UID}"
    assert run["record"].startswith(str(workspace / f"users/{LOGIN}-{UID}/active"))
    assert json.loads(hpcrun("metrics", "--json", "@last").stdout) == {"loss": 1}
    report = json.loads(hpcrun("report", "--json", "@last").stdout)
    assert report["run"]["user"] == "USER" and report["request"]["tags"] == {"of": "USER"}
    hpcrun("cancel", "@last")
    hpcrun("clean", "@last")
    assert hpcrun("logs", run["run_id"]).stdout == ""


def test_the_last_of_one_second_is_the_one_that_was_made_last(store: FileStore) -> None:
    for hex, part in (("0000000a", 0.2), ("0000000f", 0.9), ("00000000", 0.5)):
        record_a_run(store, f"digits_1700000000_{hex}", created=1700000000 + part)
    assert store.find("@last") == (LOGIN, "digits_1700000000_0000000f")
    record_a_run(store, "digits_1700000001_00000000")
    assert store.find("@last") == (LOGIN, "digits_1700000001_00000000")


# -- readers ------------------------------------------------------------------------------------


def test_a_folder_whose_owner_is_someone_else_is_ignored(workspace: Path) -> None:
    other = next(user for user in pwd.getpwall() if user.pw_uid != UID)
    for name, good in (
        (LOGIN, True),
        (f"{LOGIN}-{UID}", True),
        (f"{other.pw_name}-{UID}", False),
        (other.pw_name, False),
        (f"{LOGIN}-{other.pw_uid}", False),
    ):
        store = FileStore(workspace, name)
        Path(store.own.active, RUN_ID).mkdir(parents=True)
        assert is_theirs(Path(store.own.root)) is good
        assert store.run_ids(name) == ([RUN_ID] if good else [])
        assert (name in store.users()) is good
    with pytest.raises(RunNotFound):
        FileStore(workspace, LOGIN).find("@last", other.pw_name)


@needs_root
def test_a_folder_that_was_given_to_the_user_it_names_is_read(workspace: Path) -> None:
    other = next(user for user in pwd.getpwall() if user.pw_uid != UID)
    store = FileStore(workspace, other.pw_name)
    Path(store.own.active, RUN_ID).mkdir(parents=True)
    os.chown(store.own.root, other.pw_uid, -1)
    assert FileStore(workspace, LOGIN).find(RUN_ID[:-2]) == (other.pw_name, RUN_ID)


@pytest.mark.parametrize("where", ["", "active", f"active/{RUN_ID}"])
def test_links_in_place_of_folders_are_not_followed(
    store: FileStore, workspace: Path, where: str
) -> None:
    record_a_run(store)
    assert store.run_ids() == [RUN_ID]
    folder = Path(store.own.root, where)
    folder.rename(workspace / "elsewhere")
    folder.symlink_to(workspace / "elsewhere")
    assert store.run_ids() == []


def as_a_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_a_link(path: Path) -> None:
    path.with_name("target").write_text("{}")
    path.symlink_to("target")


@pytest.mark.parametrize("name", ["run.json", "journal.jsonl"])
@pytest.mark.parametrize(
    ("put", "said"), [(as_a_pipe, "is not a plain file"), (as_a_link, "is not followed")]
)
def test_a_pipe_or_link_in_a_record_stops_no_reader(
    store: FileStore, name: str, put: Any, said: str
) -> None:
    good = record_a_run(store, "digits_1700000001_0123abcd")
    store.append(good, store.read("digits_1700000001_0123abcd").attempt.attempt, "tags", {})
    bad = Path(record_a_run(store).record, name)
    bad.unlink(missing_ok=True)
    put(bad)
    done = hpcrun("list")
    assert "digits_1700000001_0123abcd" in done.stdout and RUN_ID not in done.stdout
    assert f"{bad}" in done.stderr and said in done.stderr
    assert said in hpcrun("show", RUN_ID, code=8).stderr


def test_a_record_cannot_say_that_it_is_anothers(store: FileStore) -> None:
    record_a_run(store, run_id=RUN_ID)
    path = Path(store.paths(RUN_ID).request)
    path.write_text(json.dumps({**json.loads(path.read_text()), "user": "x", "run_id": "y"}))
    record = store.read(RUN_ID)
    assert (record.user, record.run_id) == (store.user, RUN_ID)


@pytest.mark.parametrize("words", [("logs",), ("logs", "--batch"), ("report",)])
def test_a_pipe_among_a_runs_files_stops_no_reader(store: FileStore, words: Any) -> None:
    paths = record_a_run(store)
    Path(paths.script).unlink()
    Path(paths.user_logs, "1.0").mkdir()
    for path in (paths.script, f"{paths.user_logs}/1.0/rank-0.log", paths.batch_log(1)):
        os.mkfifo(path)
    assert "is not a plain file" in hpcrun(*words, RUN_ID, code=8).stderr


def test_files_that_a_link_brings_in_are_left_out(store: FileStore, tmp_path: Path) -> None:
    paths = record_a_run(store)
    (tmp_path / "private").mkdir()
    (tmp_path / "private/key").write_text("x")
    Path(paths.outputs, "own").mkdir()
    Path(paths.outputs, "own/file").write_text("x")
    Path(paths.outputs, "near").symlink_to("own/file")
    Path(paths.outputs, "far").symlink_to(tmp_path / "private")
    Path(paths.logs).rmdir()
    Path(paths.logs).symlink_to(tmp_path / "private")
    os.mkfifo(f"{paths.outputs}/pipe")
    assert [file.name for file in files_on_disk(paths)] == ["outputs/near", "outputs/own/file"]
    hpcrun("download", RUN_ID, "outputs/near")
    for name in ("outputs/far/key", "logs/key", "outputs/pipe"):
        hpcrun("download", RUN_ID, name, code=8)


def test_files_lie_deeper_than_python_calls_itself(store: FileStore) -> None:
    paths = record_a_run(store)
    try:
        folder = os.open(paths.outputs, os.O_RDONLY)
        for _ in range(1200):
            os.mkdir("d", dir_fd=folder)
            folder, above = os.open("d", os.O_RDONLY, dir_fd=folder), folder
            os.close(above)
        os.close(os.open("end", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        os.close(folder)
        (found,) = files_on_disk(paths)
        assert found.name == f"outputs/{'d/' * 1200}end"
        hpcrun("show", RUN_ID)
    finally:
        subprocess.run(["rm", "-rf", paths.outputs], check=True)
