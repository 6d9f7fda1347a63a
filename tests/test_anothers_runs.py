"""Runs of another user: which one a name means, and that nobody else changes it."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcrun import Run, Workspace
from hpcrun.errors import ForeignRun, RunNotFound
from hpcrun.store import FileStore
from tests.commands import answer
from tests.ordinary_user import needs_root

LOGIN = pwd.getpwuid(os.getuid()).pw_name
OTHER = f"{LOGIN}-{os.getuid()}"
"""The name that is a user's where another has taken the login: a second user, without root."""

NOBODY = pwd.getpwuid(65534)
RUN_ID = "digits_1700000000_0123abcd"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path / "history")


def begun(workspace: Workspace, user: str, run_id: str = RUN_ID, **more: object) -> str:
    """A run of a user's that waits, and its id."""
    request = {
        "run_id": run_id,
        "experiment": "digits",
        "user": user,
        "target": "interactive",
        "created": 1700000000.0,
        **more,
    }
    store = FileStore(workspace.path, user)
    store.prepare()
    store.create(request, "#!/bin/bash\n")
    return run_id


# -- which run a name means ---------------------------------------------------------------------


def test_a_run_of_ones_own_comes_before_a_copy_of_anothers(workspace: Workspace) -> None:
    store = workspace.session.store
    begun(workspace, OTHER)
    assert store.find(RUN_ID) == store.find("digits_17") == (OTHER, RUN_ID)
    begun(workspace, LOGIN)
    for name in (RUN_ID, "digits_17", "@last"):
        assert store.find(name) == (LOGIN, RUN_ID)
        assert store.find(f"{OTHER}/{name}") == (OTHER, RUN_ID) == store.find(name, OTHER)
    assert Run.get(workspace, f"{OTHER}/{RUN_ID}").record().user == OTHER
    for name in (f"{OTHER}/x", f"x/{RUN_ID}", f"../{RUN_ID}", f"{LOGIN}/../{RUN_ID}", f"/{RUN_ID}"):
        with pytest.raises(RunNotFound, match="no run"):
            store.find(name)


@needs_root
@pytest.mark.parametrize("name", ["", f"{LOGIN}/", f"{OTHER}/"])
def test_an_empty_name_is_no_beginning_of_the_only_run(workspace: Workspace, name: str) -> None:
    begun(workspace, LOGIN)
    with pytest.raises(RunNotFound, match="names no run"):
        workspace.session.store.find(name)


def test_of_an_id_that_two_others_have_none_is_chosen(workspace: Workspace) -> None:
    """Whoever of them planted it, and whosever login sorts first."""
    begun(workspace, OTHER)
    begun(workspace, NOBODY.pw_name)
    os.chown(FileStore(workspace.path, NOBODY.pw_name).own.root, NOBODY.pw_uid, -1)
    for words in (("show",), ("metrics",), ("files",), ("diff", RUN_ID), ("cancel",)):
        with pytest.raises(RunNotFound) as caught:
            answer(workspace.path, *words, RUN_ID)
        assert caught.value.exit_code == 9
        owners = sorted([OTHER, NOBODY.pw_name])
        assert f"2 users have a run {RUN_ID}: {', '.join(owners)}" in caught.value.message
        assert f"{owners[0]}/{RUN_ID}" in caught.value.hint
    with pytest.raises(RunNotFound, match=f"2 runs begin with 'digits_': .*{OTHER}/{RUN_ID}"):
        Run.get(workspace, "digits_")
    for user in (OTHER, NOBODY.pw_name):
        shown = json.loads(answer(workspace.path, "show", "--json", f"{user}/digits_"))
        assert (shown["run_id"], shown["user"]) == (RUN_ID, user)
        assert Run.get(workspace, f"{user}/{RUN_ID}").record().user == user
    listed = json.loads(answer(workspace.path, "list", "-u", "all", "--json"))
    assert sorted((run["run_id"], run["user"]) for run in listed) == [(RUN_ID, o) for o in owners]
    assert all(user in answer(workspace.path, "list", "-u", "all") for user in owners)
    begun(workspace, LOGIN)
    assert workspace.session.store.find(RUN_ID) == (LOGIN, RUN_ID)


def test_the_last_run_is_none_that_another_made(workspace: Workspace) -> None:
    store = workspace.session.store
    parent = begun(workspace, LOGIN)
    for second in (0, 1, 2):
        begun(workspace, LOGIN, f"digits_170000000{second}_ffffffff", parent=parent, created=1.8e9)
    assert store.find("@last") == (LOGIN, parent)
    store.create({**store.request(store.paths(parent)), "run_id": "a_1700000001_0123abcd"}, "")
    assert store.find("@last") == (LOGIN, "a_1700000001_0123abcd")
    store.discard("a_1700000001_0123abcd")
    store.discard(parent)
    with pytest.raises(RunNotFound, match="there is no run"):
        store.find("@last")


# -- changing it --------------------------------------------------------------------------------


def times_below(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


COMMANDS = (
    ("cancel",),
    ("archive",),
    ("archive", "--undo"),
    ("delete", "--yes"),
    ("collect",),
    ("clean",),
    ("resubmit",),
    ("store", "seal"),
    ("store", "check", "--mend"),
)

CALLS: tuple[Callable[[Run], object], ...] = (
    lambda run: run.cancel(),
    lambda run: run.complete(),
    lambda run: run.fail(),
    lambda run: run.archive(),
    lambda run: run.reactivate(),
    lambda run: run.plan_deletion(),
    lambda run: run.delete(),
    lambda run: run.resubmit(),
    lambda run: run.tag("a", "b"),
    lambda run: run.set_tags({"a": "b"}),
    lambda run: run.remove_tags("a"),
    lambda run: run.add_properties({"a": "b"}),
    lambda run: setattr(run, "display_name", "a"),
    lambda run: setattr(run, "description", "a"),
    lambda run: run.log("a", 1),
    lambda run: run.log_table("a", {"b": [1]}),
    lambda run: run.upload_file("a", __file__),
    lambda run: run.upload_folder("a", "."),
    lambda run: run.register_model("a", "outputs/a"),
    lambda run: run.child_run(),
    lambda run: run.create_children(1),
    lambda run: run.submit_child("digits"),
)


@pytest.mark.parametrize("state", ["going", "ended"])
def test_whatever_would_change_anothers_run_says_whose_it_is(
    workspace: Workspace, state: str
) -> None:
    begun(workspace, OTHER)
    other = FileStore(workspace.path, OTHER)
    if state == "ended":
        paths, attempt = other.paths(RUN_ID), other.read(RUN_ID).attempt.attempt
        other.append(paths, attempt, "ended", {"exit_code": 0, "cause": "completed"})
    run = Run.get(workspace, RUN_ID)
    commands = [
        lambda w=words: answer(workspace.path, *w, RUN_ID)  # type: ignore[misc]
        for words in COMMANDS
    ]
    before = times_below(workspace.path)
    for act in [*commands, *(lambda c=call: c(run) for call in CALLS)]:
        with pytest.raises(ForeignRun, match=OTHER) as caught:
            act()
        assert caught.value.exit_code == 10
    assert times_below(workspace.path) == before
