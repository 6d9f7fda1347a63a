"""What is whole is taken in, and nothing that is here already is touched."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcrun.assets import Assets
from hpcrun.errors import StoreError
from hpcrun.store import FileStore
from hpcrun.store.sealed import sealed
from hpcrun.store.sealing import seal
from hpcrun.workflow.exporting import export
from hpcrun.workflow.importing import STAGE, take_in
from hpcrun.workflow.listing import index, list_rows
from hpcrun.workflow.stage import stage
from tests.care import Own
from tests.exchanged import here, origin, session, whole_file, with_record, with_text
from tests.ordinary_user import NOBODY, as_ordinary_user
from tests.test_sealing_faults import make_run

__all__ = ["here", "origin", "whole_file"]


def test_what_is_whole_is_taken_in(origin: Own, whole_file: Path, here: Own) -> None:
    taken = take_in(here, whole_file)
    assert [run.is_new for run in taken] == [True] * 3
    for run_id in origin.store.run_ids():
        was, now = (one.store.read(run_id) for one in (origin, here))
        assert now.imported is not None and (was.attempt.undrained, now.attempt.undrained) == (
            ("n1",), (),
        )  # fmt: skip
        assert now.problems == ("records may have stayed on n1 when it was exported",)
        assert (now.state, now.verdict, now.tags) == (was.state, was.verdict, was.tags)
        a, b = (one.store.metrics(one.store.paths(run_id)) for one in (origin, here))
        assert repr(a) == repr(b)
    # November 2023 is over, and its month may be closed in the index.
    index(here)
    assert len(list_rows(here, None)) == 3
    assert not list(Path(here.store.own.root).glob(".import-*"))


def test_some_who_take_in_at_once_do_not_take_stages_for_left_ones(tmp_path: Path) -> None:
    clients = 4
    at_once = threading.Barrier(clients)

    def lays(own: Path) -> bool:
        at_once.wait()
        with stage(own, STAGE) as folder:
            (folder / "file").touch()
            return (folder / "file").exists()

    with ThreadPoolExecutor(clients) as pool:
        for number in range(100):
            own = tmp_path / str(number)
            own.mkdir()
            assert all(pool.map(lays, [own] * clients))
            assert list(own.iterdir()) == []


def test_an_import_into_a_closed_month_is_listed(whole_file: Path, here: Own) -> None:
    seal(here.store.stored(make_run(here.store, 77)))
    index(here)
    take_in(here, whole_file)
    assert len(list_rows(here, None)) == 4


def test_files_that_are_closed_to_the_reader_stay_behind() -> None:
    if os.geteuid() != 0:
        pytest.skip("files of somebody else need root")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        theirs = session(root)
        paths = make_run(theirs.store, 6)
        Path(paths.outputs, "open").write_text("open")
        Path(paths.outputs, "closed").write_text("closed")
        Path(paths.outputs, "closed").chmod(0)
        mine = root / "mine"
        mine.mkdir()
        os.chown(mine, NOBODY, -1)

        def leave() -> None:
            reader = Own(theirs.workspace, Assets.of(root, {}))
            run = reader.store.read(paths.run_id, theirs.store.user)
            done = export(reader, [run], mine / "runs.tar", ())
            (mine / "notes").write_text("\n".join(done.notes))

        assert as_ordinary_user(leave) == "no error"
        assert (
            "1 files stay behind, which you have no right to read" in (mine / "notes").read_text()
        )
        with tarfile.open(mine / "runs.tar") as archive:
            names = {Path(member).name for member in archive.getnames()}
        assert "open" in names and "closed" not in names


def test_runs_of_somebody_else_can_be_exported(here: Own, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a folder of somebody else needs root")
    theirs = FileStore(here.workspace, "nobody")
    Path(theirs.own.root).mkdir()
    for folder in ("active", "files", "snapshots/objects"):
        Path(theirs.own.root, folder).mkdir(parents=True)
    paths = make_run(theirs, 5)
    os.chown(theirs.own.root, NOBODY, -1)
    path = tmp_path / "theirs.tar"
    done = export(here, [here.store.read(paths.run_id, "nobody")], path, ())
    assert any("without its source" in note for note in done.notes)
    # Here it is already, and stays nobody's.
    assert [run.is_new for run in take_in(here, path)] == [False]
    there = session(tmp_path / "there")
    assert [(run.is_new, run.user) for run in take_in(there, path)] == [(True, "nobody")]
    # Where its files seem to lie may be a link to what only the reader can read.
    shutil.rmtree(paths.files)
    Path(paths.files).symlink_to(tmp_path)
    with pytest.raises(StoreError, match="lie in a folder of somebody else"):
        export(here, [here.store.read(paths.run_id, "nobody")], tmp_path / "other.tar", ())
    record = there.store.read(paths.run_id)
    assert record.user == there.user and record.imported is not None
    assert (record.imported.user, record.imported.workspace) == ("nobody", str(here.workspace))


def test_a_run_that_is_here_with_another_content(
    origin: Own, whole_file: Path, here: Own, tmp_path: Path
) -> None:
    """It stays; the others are taken in, also one of which a killed import has left the files."""
    taken = take_in(here, whole_file)
    mine = here.store.paths(taken[0].run_id)
    Path(mine.outputs, "model").write_bytes(b"other")
    for run in taken[1:]:
        here.store.stored(here.store.paths(run.run_id)).sealed_path(0).unlink()
    theirs = Path(here.store.paths(taken[2].run_id).outputs, "mine")
    theirs.write_bytes(b"precious")
    again = take_in(here, whole_file)
    assert [(run.is_new, bool(run.reason)) for run in again] == [
        (False, True), (True, False), (False, True),
    ]  # fmt: skip
    assert "with another outputs/model" in again[0].reason
    assert again[2].reason.startswith("its files are here without a record, and files/")
    theirs.unlink()
    assert [run.is_new for run in take_in(here, whole_file)] == [False, False, True]
    assert Path(mine.outputs, "model").read_bytes() == b"other"
    other = with_record(whole_file, tmp_path, lambda c: sealed(with_text(c, "script.sh", b"other")))
    assert "with another record" in take_in(here, other)[0].reason
