"""Archiving and deleting: what lists hide, and what a preview says is what goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcrun import Experiment, Run, Workspace
from hpcrun.errors import ConfigError, RunNotFound, StoreError
from hpcrun.store.experiments import read_experiment
from hpcrun.workflow.delete import delete
from tests.commands import hpcrun, told
from tests.lab import eventually
from tests.terminal import Terminal


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "history"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return Experiment(Workspace.from_config(), "notes")


def make(experiment: Experiment, children: int = 0) -> Run:
    with experiment.start_logging(outputs=False, snapshot_directory=None) as run:
        run.log("x", 1)
        for _ in range(children):
            with run.child_run() as child:
                child.log("x", 2)
    return Run.get(experiment.workspace, run.id)


def listed(*words: str) -> set[str]:
    return {run["run_id"] for run in told("list", *words)}


def test_lists_leave_out_archived_runs_and_children(experiment: Experiment) -> None:
    run, other = make(experiment, children=1), make(experiment)
    (child,) = run.get_children()
    assert listed() == {run.id, other.id}
    assert listed("--children") == {run.id, other.id, child.id}
    assert told("archive", run.id) == {"archived": True, "runs": [run.id], "experiment": None}
    assert listed() == {other.id} == {r.id for r in experiment.get_runs()}
    assert listed("--archived") == {run.id, other.id}
    assert {r.id for r in experiment.get_runs(view_type="ArchivedOnly")} == {run.id}
    assert {r.id for r in experiment.get_runs(view_type="All")} == {run.id, other.id}
    assert told("show", run.id)["archived"] is True and run.get_metrics() == {"x": 1}
    assert hpcrun("archive", "--undo", run.id).stdout == f"{run.id}: shown again\n"
    assert listed() == {run.id, other.id}
    run.archive()
    assert listed("-n", "1") == {other.id}
    run.reactivate()
    assert len(listed("-n", "2")) == 2
    with pytest.raises(ConfigError, match="no view_type 'Some'"):
        list(experiment.get_runs(view_type="Some"))


def test_an_archived_experiment_hides_its_runs_so_far(experiment: Experiment) -> None:
    workspace = experiment.workspace
    old = make(experiment)
    experiment.tag("kind", "x")
    experiment.archive()
    assert (listed(), listed("--archived")) == (set(), {old.id})
    assert Experiment.list(workspace) == []
    archived = Experiment.list(workspace, view_type="ArchivedOnly", tags={"kind": "x"})
    assert [e.name for e in archived] == ["notes"]
    assert archived[0].archived_time is not None
    time.sleep(0.01)
    new = make(experiment)
    assert listed() == {new.id}
    assert experiment.archived_time is None
    assert [e.id for e in Experiment.list(workspace, "notes")] == ["notes"]
    assert Experiment.list(workspace, "other") == []
    experiment.reactivate()
    assert listed() == {old.id, new.id}
    assert told("archive", "-e", "notes")["experiment"] == "notes"
    assert listed() == set()
    hpcrun("archive", "-e", "notes", "--undo")
    assert len(listed()) == 2
    assert "no run of experiment 'absent'" in hpcrun("archive", "-e", "absent", code=9).stderr
    assert "nothing is named" in hpcrun("archive", code=2).stderr


def test_tags_of_an_experiment(experiment: Experiment) -> None:
    make(experiment)
    experiment.set_tags({"a": "1", "b": "2"})
    experiment.remove_tags("a")
    experiment.tag("c")
    assert experiment.tags == {"b": "2", "c": ""}
    assert [e.name for e in Experiment.list(experiment.workspace, tags={"b": "2"})] == ["notes"]
    assert Experiment.list(experiment.workspace, tags="a") == []


def on_disk(run: Run) -> tuple[int, int]:
    found = [
        path.lstat().st_size
        for folder in (run.paths.record, run.paths.files)
        for path in Path(folder).rglob("*")
        if not path.is_dir()
    ]
    return len(found), sum(found)


def test_the_preview_says_what_goes(experiment: Experiment, tmp_path: Path) -> None:
    run, other = make(experiment, children=2), make(experiment)
    grandchild = next(run.get_children()).child_run()
    grandchild.complete()
    run.upload_file("outputs/big", __file__)
    (Path(run.paths.outputs) / "link").symlink_to(tmp_path)
    family = [*run.get_children(recursive=True), run]
    sizes = {r.id: on_disk(r) for r in family}
    plan = told("delete", run.id)
    assert plan["deleted"] is False
    assert {r["run_id"]: (r["files"], r["bytes"]) for r in plan["runs"]} == sizes
    assert plan["runs"][-1]["run_id"] == run.id
    assert plan["bytes"] == sum(size for _, size in sizes.values())
    assert plan["files"] == sum(count for count, _ in sizes.values())
    assert (run.plan_deletion().files, run.plan_deletion().bytes) == (plan["files"], plan["bytes"])
    done = hpcrun("delete", run.id)
    assert "4 runs, " in done.stdout and "nothing was deleted" in done.stderr
    assert listed() == {run.id, other.id}
    assert told("delete", "--yes", run.id)["deleted"] is True
    assert listed("--children", "--archived") == {other.id}
    for gone in family:
        assert not Path(gone.paths.record).exists() and not Path(gone.paths.files).exists()
    assert tmp_path.is_dir()
    assert "no run" in hpcrun("delete", run.id, code=9).stderr


def test_delete_asks_a_person(experiment: Experiment) -> None:
    run = make(experiment)
    for answer, left in (("n\n", {run.id}), ("y\n", set())):
        terminal = Terminal([sys.executable, "-m", "hpcrun", "delete", run.id])
        terminal.shows(r"delete 1 runs for good\?")
        terminal.type(answer)
        assert terminal.ends() == 0
        assert listed() == left


def test_a_deleted_child_is_no_child_any_more(experiment: Experiment) -> None:
    run = make(experiment, children=2)
    first, second = run.get_children()
    assert [r.record.run_id for r in first.delete().runs] == [first.id]
    assert [c.id for c in run.get_children()] == [second.id]
    assert set(run.get_metrics(recursive=True)) == {run.id, second.id}
    assert [r.record.run_id for r in run.delete().runs] == [second.id, run.id]
    assert Experiment.list(experiment.workspace) == []
    experiment.tag("a")
    Experiment.delete(experiment.workspace, "notes")
    assert read_experiment(experiment.workspace.session.store, "notes").tags == {}


def test_children_that_never_began_go_with_their_parent(experiment: Experiment) -> None:
    with experiment.start_logging(outputs=False, snapshot_directory=None) as run:
        waiting = run.create_children(2)
    assert {c.get_status() for c in waiting} == {"NotStarted"}
    assert len(run.delete().runs) == 3
    assert listed("--children") == set()


def test_what_is_not_deleted(experiment: Experiment) -> None:
    done = make(experiment)
    with experiment.start_logging(outputs=False, snapshot_directory=None) as running:
        assert "has not ended" in hpcrun("delete", "-y", done.id, running.id, code=8).stderr
        child = running.child_run()
        with pytest.raises(StoreError, match="is Running; it has not ended"):
            running.delete()
        child.complete()
        (waiting,) = running.create_children(1)
    plan = Run.get(experiment.workspace, waiting.id).plan_deletion()
    waiting.start()  # while whoever deletes is asked
    eventually(lambda: Run.get(experiment.workspace, waiting.id).get_status() == "Running")
    with pytest.raises(StoreError, match="goes on again"):
        delete(experiment.workspace.session, plan)
    waiting.complete()
    Run.get(experiment.workspace, waiting.id).delete()
    delete(experiment.workspace.session, plan)  # somebody else was first
    assert listed() == {done.id, running.id}
    with pytest.raises(StoreError, match="has 3 runs"):
        Experiment.delete(experiment.workspace, "notes")


def test_a_deletion_that_was_cut_can_be_repeated(experiment: Experiment) -> None:
    run, other = make(experiment), make(experiment)
    record, files = Path(run.paths.record), Path(run.paths.files)
    # The files are gone, the record is still there.
    for path in sorted(files.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    files.rmdir()
    assert told("delete", "-y", run.id)["deleted"] is True
    assert not record.exists()
    # The record was renamed, and not yet removed.
    Path(other.paths.record).rename(record.with_name(f".{other.id}.deleted"))
    assert listed() == set()
    make(experiment).delete()
    assert list(record.parent.iterdir()) == []


def test_every_command_knows_an_interactive_run(experiment: Experiment) -> None:
    run = make(experiment)
    assert told("show", run.id)["verdict"]["sentence"] == "the script completed the run"
    assert "the script completed the run" in hpcrun("show", run.id).stdout
    assert told("wait", run.id)["status"] == told("cancel", run.id)[0]["status"] == "Completed"
    assert told("metrics", run.id) == {"x": 1}
    assert told("report", run.id)["script"] == []
    assert told("collect", run.id)["collected"] == []
    assert "has no snapshot" in hpcrun("clean", run.id, code=8).stderr
    assert "no output" in hpcrun("logs", run.id, code=8).stderr


CALLS: dict[str, Callable[[Run], object]] = {
    "tag": lambda run: run.tag("a"),
    "set_tags": lambda run: run.set_tags({"a": "b"}),
    "remove_tags": lambda run: run.remove_tags("a"),
    "add_properties": lambda run: run.add_properties({"a": "b"}),
    "display_name": lambda run: setattr(run, "display_name", "a"),
    "log": lambda run: run.log("y", 2),
    "child_run": lambda run: run.child_run(),
    "create_children": lambda run: run.create_children(1),
    "submit_child": lambda run: run.submit_child("notes"),
    "upload_file": lambda run: run.upload_file("a", __file__),
    "register_model": lambda run: run.register_model("m", "outputs/a"),
    "start": lambda run: getattr(run, "start", run.archive)(),
    "archive": lambda run: run.archive(),
    "delete": lambda run: run.delete(),
    "status": lambda run: run.get_status(),
    "tags": lambda run: run.tags,
    "get_all_logs": lambda run: run.get_all_logs(),
}


def test_a_handle_of_a_deleted_run_says_so_and_brings_nothing_back(
    experiment: Experiment, tmp_path: Path
) -> None:
    with experiment.start_logging(outputs=False, snapshot_directory=None) as ended:
        (waiting,) = ended.create_children(1)
    known = Run.get(experiment.workspace, ended.id)
    known.delete()
    left = {*(tmp_path / "history").rglob("*")}
    for run in (known, ended, waiting):
        for name, call in CALLS.items():
            with pytest.raises(StoreError) as caught:
                call(run)
            assert f"there is no run {run.id} any more" in caught.value.message, (name, run)
    assert {*(tmp_path / "history").rglob("*")} == left


def test_only_an_experiment_that_there_is_can_be_deleted(experiment: Experiment) -> None:
    workspace = experiment.workspace
    run = make(experiment)
    for name, error in (("absent", RunNotFound), ("../active", ConfigError), ("", ConfigError)):
        with pytest.raises(error):
            Experiment.delete(workspace, name)
    assert Run.get(workspace, run.id).get_metrics() == {"x": 1}
    run.delete()
    experiment.tag("a")
    Experiment.delete(workspace, experiment.name)
    with pytest.raises(RunNotFound, match="there is no experiment 'notes'"):
        Experiment.delete(workspace, experiment.name)


def test_a_private_run_is_not_exported_and_why_is_told(experiment: Experiment) -> None:
    with experiment.start_logging(outputs=False, snapshot_directory=None, private=True) as run:
        pass
    said = hpcrun("store", "export", run.id, "-o", "x.tar", code=8).stderr
    assert "it is private, and whoever took it in would show it (its files can be copied" in said
