"""`hpcrun env`: what is built, shown and removed, and what stays since a run needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hpcrun.config import load_config
from hpcrun.environments.cache import MARKER
from hpcrun.errors import BuildError
from hpcrun.workflow.pruning import prune as pruned
from hpcrun.workflow.pruning import unneeded
from hpcrun.workflow.session import open_session
from hpcrun.workflow.submit import keep_source, write_intent
from tests.commands import hpcrun
from tests.wheels import make_wheel

RUN = """\
script: train.py
environment: {name: tiny, pip: [--no-index, --find-links wheels, tinypack]}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose script says which `tinypack` it has."""
    make_wheel(tmp_path / "p/wheels", "tinypack", "1.0")
    (tmp_path / "p/train.py").write_text("import tinypack\nprint('tinypack', tinypack.VERSION)\n")
    (tmp_path / "p/run.yaml").write_text(RUN)
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.chdir(tmp_path / "p")
    return tmp_path / "p"


def age(folder: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(folder / MARKER if (folder / MARKER).exists() else folder, (then, then))


def test_rebuilding_showing_and_pruning(project: Path) -> None:
    first = hpcrun("env", "build", "--json")
    assert "building environment tiny" in first.stderr
    assert hpcrun("env", "build").stderr == ""
    ran = hpcrun("submit", "--follow")
    assert "building" not in ran.stderr and "tinypack 1.0" in ran.stdout
    make_wheel(project / "wheels", "tinypack", "2.0")
    hpcrun("env", "build", "--rebuild")
    (newest, older) = environments()
    assert (newest["lock"], older["lock"]) == (["tinypack==2.0"], ["tinypack==1.0"])
    assert (newest["number"], older["number"], newest["key"]) == (2, 1, older["key"])
    assert "tinypack 2.0" in hpcrun("submit", "--follow").stdout
    shown = hpcrun("env", "show", "tiny").stdout
    assert newest["folder"] in shown and "tinypack==2.0" in shown
    assert "more than one environment" in hpcrun("env", "show", newest["key"][:4], code=8).stderr
    assert "there is no environment 'x'" in hpcrun("env", "show", "x", code=8).stderr

    (usage,) = json.loads(hpcrun("store", "stats", "--json").stdout)["users"]
    assert usage["areas"]["environments"]["inodes"] > 10

    # Nothing goes while a run that is not sealed has it.
    room = Path(newest["folder"]).parent
    (room / ".build-01234567").mkdir()
    for folder in (Path(newest["folder"]), Path(older["folder"]), room / ".build-01234567"):
        age(folder, 40)
    preview = hpcrun("env", "prune")
    assert ".build-01234567\ta killed build" in preview.stdout
    assert "nothing was deleted" in preview.stderr and newest["key"] not in preview.stdout
    assert (room / ".build-01234567").exists()
    hpcrun("store", "seal")
    # What was wanted some days ago stays as well, unless --idle says less.
    age(Path(newest["folder"]), 3)
    gone = prune("--yes")
    assert {Path(each["folder"]).name for each in gone} == {
        f"{older['key']}.1",
        ".build-01234567",
    }
    assert [each["folder"] for each in environments()] == [newest["folder"]]
    assert len(list(room.glob(".build-*"))) == 1
    assert prune("--yes", "--idle", "4d") == []
    assert len(prune("--yes", "--idle", "2d")) == 1
    assert environments() == [] and not list(room.glob(".build-*"))

    # What is built again of other packages is not what a run had.
    hpcrun("env", "build")
    assert [each["folder"] for each in environments()] == [older["folder"]]
    run_id = ran.stdout.split()[2]
    said = hpcrun("resubmit", run_id, code=8).stderr
    assert f"cannot be submitted again: its environment, {older['folder']}, is gone" in said


def test_what_is_removed_between_two_steps_of_a_submission_submits_nothing(project: Path) -> None:
    """The step in which another's `prune` does not see yet that a run needs it."""
    session = open_session()
    prepared = session.prepare(load_config(Path("run.yaml")), folder=project)
    request = keep_source(prepared, session.store)
    (built,) = environments()
    age(Path(built["folder"]), 40)
    going = unneeded(session.store, time.time(), 0)
    os.utime(Path(built["folder"], MARKER))  # as who submits a sealed run again
    assert len(going) == 1 and pruned(going, session.store, time.time(), 0) == []
    age(Path(built["folder"]), 40)
    assert [each["folder"] for each in prune("--yes")] == [built["folder"]]
    with pytest.raises(BuildError, match=r"was removed just now \(submit again\)"):
        write_intent(prepared.plan, request, prepared.script.text, session.store)
    assert json.loads(hpcrun("list", "--json").stdout) == []


def test_what_a_killed_prune_left_in_its_midst_is_finished(project: Path) -> None:
    hpcrun("submit", "--follow")
    store = open_session().store
    (built,) = environments()
    link = Path(built["folder"])
    age(link, 40)
    later = time.time() + 3 * 86_400
    aside = link.rename(link.with_name(f".{link.name}.pruned"))
    assert unneeded(store, time.time(), 0) == []  # whoever does it may be at work
    (left,) = unneeded(store, later, 0)
    assert pruned([left], store, later, 0) == [] and link.exists()  # a run has it
    hpcrun("store", "seal")
    link.rename(aside)
    (left,) = unneeded(store, later, 0)
    assert (left.folder, left.files > 10) == (str(aside), True)
    assert pruned([left], store, later, 0) == [left]
    assert not [path for path in link.parent.iterdir() if not path.name.endswith(".lock")]


def test_some_who_prune_at_once_do_not_trip_over_one_another(project: Path) -> None:
    (room,) = {Path(each["folder"]).parent for each in [build()]}
    for number in range(40):
        (room / f".build-{number:08x}/deep").mkdir(parents=True)
        for name in "abcdefgh":
            (room / f".build-{number:08x}/deep/{name}").touch()
        age(room / f".build-{number:08x}", 40)
    age(Path(environments()[0]["folder"]), 40)
    words = [sys.executable, "-m", "hpcrun", "env", "prune", "--yes", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as one, subprocess.Popen(words, **pipes) as two:
        said = [process.communicate() for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), said
    gone = [each["folder"] for out, _ in said for each in json.loads(out)["environments"]]
    assert len(set(gone)) == 41
    assert [path.name for path in room.iterdir() if not path.name.endswith(".lock")] == []


def build() -> Any:
    return json.loads(hpcrun("env", "build", "--json").stdout)


def environments() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(hpcrun("env", "list", "--json").stdout)
    return found


def prune(*words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(hpcrun("env", "prune", "--json", *words).stdout)[
        "environments"
    ]
    return found
