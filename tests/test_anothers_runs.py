"""Runs of another user: which one a name means, and that nobody else changes it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcrun import Run, Workspace
from hpcrun.errors import ForeignRun
from hpcrun.store import FileStore
from tests.commands import answer

LOGIN = pwd.getpwuid(os.getuid()).pw_name
OTHER = f"{LOGIN}-{os.getuid()}"
"""The name that is a user's where another has taken the login: a second user, without root."""

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
