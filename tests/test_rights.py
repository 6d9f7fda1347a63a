"""Who can read what is written: the umask that follows a folder, and a workspace's policy."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from hpcrun.errors import StoreError
from hpcrun.layout import UserPaths
from hpcrun.rights import kept_to, let_in, umask_of
from hpcrun.store import FileStore
from hpcrun.store.policy import Policy, read_policy
from hpcrun.store.users import own_name
from tests.make_plan import from_yaml, plan


def masked() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def folder(tmp_path: Path, mode: int) -> str:
    path = tmp_path / f"{mode:o}"
    path.mkdir()
    path.chmod(mode)
    return str(path)


def test_what_is_made_follows_the_folder_and_then_the_shell_again(tmp_path: Path) -> None:
    before = masked()
    with kept_to(f"{folder(tmp_path, 0o2750)}/not/there/yet"):
        (tmp_path / "file").touch()
        with pytest.raises(ValueError, match="x"), kept_to(folder(tmp_path, 0o700)):
            assert masked() == 0o077
            raise ValueError("x")
        assert masked() == 0o027
    assert masked() == before
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_two_threads_leave_the_process_its_own_umask(tmp_path: Path) -> None:
    """One begins while the other is at it, and ends after it."""
    before, group, own = masked(), folder(tmp_path, 0o750), folder(tmp_path, 0o700)
    begun, ended = threading.Event(), threading.Event()

    def other() -> None:
        with kept_to(own):
            begun.set()
            ended.wait(10)

    with kept_to(group):
        thread = threading.Thread(target=other)
        thread.start()
        begun.wait(10)
        assert masked() == 0o077
    assert masked() == 0o077
    ended.set()
    thread.join()
    assert masked() == before


def test_what_is_copied_can_be_read_as_what_is_made(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    copied = tmp_path / "copied"
    (copied / "deep").mkdir(parents=True)
    (copied / "deep/run").touch(0o700)
    (copied / "deep/data").touch(0o600)
    (copied / "deep/link").symlink_to("/etc/passwd")
    for folder in (copied / "deep", copied):
        folder.chmod(0o700)
    before = Path("/etc/passwd").stat().st_mode
    let_in(str(copied))
    named = (".", "deep", "deep/run", "deep/data")
    modes = [(copied / name).stat().st_mode & 0o777 for name in named]
    assert modes == [0o750, 0o750, 0o750, 0o640]
    assert Path("/etc/passwd").stat().st_mode == before


@pytest.mark.parametrize(("told", "umask"), [("0000", 0o022), ("7777", 0o077), ("0027", 0o027)])
def test_no_policy_lets_others_write(tmp_path: Path, told: str, umask: int) -> None:
    value = {"format": 1, "policy": {"group": "x", "umask": told, "private": False}}
    (tmp_path / "workspace.json").write_text(json.dumps(value))
    policy = read_policy(tmp_path)
    assert policy == Policy("x", umask) and policy.mode is not None and not policy.mode & 0o022


@pytest.mark.parametrize("policy", [[], "x", {"group": 1, "umask": "0027", "private": False}, {}])
def test_a_damaged_policy_is_told(tmp_path: Path, policy: object) -> None:
    (tmp_path / "workspace.json").write_text(json.dumps({"format": 1, "policy": policy}))
    with pytest.raises(StoreError, match=r"the policy in .* is damaged"):
        read_policy(tmp_path)


def test_private_runs_have_folders_of_their_own(tmp_path: Path) -> None:
    own = UserPaths.of("/lab/users", "private")
    assert (own.is_private, own.user) == (False, "private")
    assert (own.private.is_private, own.private.user) == (True, "private")
    store = FileStore(tmp_path, own_name(tmp_path))
    assert store.rooms() == [store.own]
    room = store.prepare(private=True)
    assert store.rooms() == [store.own, room] and store.rooms("somebody") != store.rooms()
    assert umask_of(room.root) == umask_of(room.active) == umask_of(room.objects) == 0o077


@pytest.mark.parametrize(
    ("asked", "policy", "private", "origin"),
    [
        ("", False, False, None),
        ("", True, True, "workspace"),
        ("private: false\n", True, False, "run.yaml:2"),
        ("private: true\n", False, True, "run.yaml:2"),
    ],
)
def test_a_run_is_private_as_it_or_its_workspace_says(
    asked: str, policy: bool, private: bool, origin: str | None
) -> None:
    made = plan(from_yaml(f"script: a.py\n{asked}"), private=policy)
    assert made.private is private
    assert made.paths.owner.is_private is private and made.paths.record in made.job.folder.replace(
        "/files/2023-11/", "/active/"
    )
    found = {choice.name: choice.origin for choice in made.choices}
    assert found.get("private") == origin
