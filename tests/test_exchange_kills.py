"""Exports and imports that are killed, and files that change while they are exported."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcrun.errors import StoreError
from hpcrun.store.bundle import Bundle, LinkMember, Member
from hpcrun.store.holes import survey
from hpcrun.store.packing import Source, write_bundle
from hpcrun.workflow.importing import take_in
from hpcrun.workflow.listing import list_rows
from tests.care import Own
from tests.exchanged import OF_RUN, manifest_of, origin, session, signed, whole_file

__all__ = ["origin", "whole_file"]


KILLS = 10


IMPORTER = """\
import os, sys
from pathlib import Path
from hpcrun.assets import Assets
from hpcrun.workflow.importing import take_in
from hpcrun.workflow.session import Session

root = Path(sys.argv[1])
os.write(1, b"begun\\n")
take_in(Session(root / "history", Assets.of(root, {})), Path(sys.argv[2]))
os.write(1, b"done\\n")
"""


def test_killed_anywhere_an_import_takes_runs_whole_or_not(
    origin: Own, whole_file: Path, tmp_path: Path
) -> None:
    ids, landed = set(origin.store.run_ids()), 0
    expected = Bundle.decode(signed(manifest_of(whole_file)), "x")
    chance, between, took = random.Random(3), 0, 0.0
    for turn in range(6 * KILLS):
        root = tmp_path / str(turn)
        here = session(root)
        words = [sys.executable, "-c", IMPORTER, str(root), str(whole_file)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            first, began = child.stdout.readline(), time.monotonic()
            if turn:
                time.sleep(chance.uniform(0, took))
                child.send_signal(signal.SIGKILL)
            acknowledged = (first + child.stdout.read()).split()
            took = took or time.monotonic() - began  # the first is not killed
        found = set(here.store.run_ids())
        landed += acknowledged == [b"begun"]
        between += 0 < len(found) < len(ids)
        assert found <= ids
        for run_id in found:
            check_whole(here, run_id, expected)
        taken = take_in(here, whole_file)
        assert {run.run_id: run.is_new for run in taken} == {i: i not in found for i in ids}
        assert len(list_rows(here, None)) == len(ids)
        for run_id in ids:
            check_whole(here, run_id, expected)
        assert not list(Path(here.store.own.root).glob(".import-*"))
        shutil.rmtree(root)
        if landed >= KILLS:
            return
    pytest.fail(f"only {landed} kills landed while it was at work")


def check_whole(here: Own, run_id: str, bundle: Bundle) -> None:
    record = here.store.read(run_id)
    assert record.imported is not None and record.state.is_end
    for member in bundle.by_run[run_id]:
        path = Path(here.store.own.root, member.path)
        assert (
            path.is_symlink()
            if isinstance(member, LinkMember)
            else (path.stat().st_size == member.size)
        )


def test_a_killed_export_leaves_no_file_of_its_name(origin: Own, tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom hpcrun.assets import Assets\n"
        "from hpcrun.workflow.exporting import export\n"
        "from hpcrun.workflow.session import Session\n"
        "session = Session(Path(sys.argv[1]), Assets.of(Path(sys.argv[1]), {}))\n"
        "records = [session.store.read(i) for i in session.store.run_ids()]\n"
        "for turn in range(1000):\n"
        "    export(session, records, Path(sys.argv[2], f'{turn}.tar'), ())\n"
        "    os.write(1, b'.')\n"
    )
    words = [sys.executable, "-c", code, str(origin.workspace), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read(3)
        time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.stdout.read()
    whole = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert len(whole) >= 3
    assert len({path.read_bytes() for path in whole}) == 1


def test_a_file_that_changes_while_it_is_exported(origin: Own, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a" * 100)
    with path.open("rb") as file:
        found = survey(file.fileno())
    member = Member(f"{OF_RUN}/outputs/a", 100, found.sha256)
    for data in (b"b" * 100, b"a" * 99, b"a" * 101):
        path.write_bytes(data)
        with pytest.raises(StoreError, match="changed while it was exported"):
            write_bundle(
                tmp_path / "x.tar", Bundle((), (member,)), {member.path: Source(path, found)}
            )
        assert os.listdir(tmp_path) == ["file"]
