"""A submission from another machine: whoever decides first decides, and what is open is asked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcrun.assets import Assets
from hpcrun.errors import StoreError
from hpcrun.store import FileStore
from hpcrun.store.deciding import GOES_ON, WITHDRAWN, decide
from hpcrun.workflow.pending import KEPT, Pending
from hpcrun.workflow.sent import go_on
from hpcrun.workflow.session import Session
from hpcrun.workflow.settle import settle

RUN_ID = "sent_1700000000_0123abcd"


NOTE = """\
import sys
from pathlib import Path
from hpcrun.workflow.pending import Pending

with Pending(Path(sys.argv[1]), "far:").noted("a_1_0"):
    print("noted", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Session(tmp_path / "history", Assets())


def begun(store: FileStore) -> None:
    """The record of a run is written, and nothing else."""
    store.prepare()
    request = {"format": 1, "run_id": RUN_ID, "experiment": "sent", "target": "local"}
    store.create({**request, "created": time.time(), "user": store.user}, "#!/bin/sh\n")


def test_the_first_word_stands(session: Session) -> None:
    own = session.store.prepare()
    umask = os.umask(0)
    assert decide(own, RUN_ID, WITHDRAWN) == WITHDRAWN
    os.umask(umask)
    # Nobody else can take it back, whatever a login shell says of rights.
    assert not Path(own.active, f".given-{RUN_ID}").stat().st_mode & 0o022
    assert decide(own, RUN_ID, GOES_ON) == WITHDRAWN
    assert decide(own, f"{RUN_ID[:-1]}e", GOES_ON) == GOES_ON
    assert len([*Path(own.active).iterdir()]) == 2


def test_what_was_withdrawn_never_becomes_a_run(session: Session) -> None:
    assert settle(session, RUN_ID) is None
    begun(session.store)
    with pytest.raises(StoreError, match="was withdrawn"):
        go_on(session.store, RUN_ID)
    assert not session.store.has(RUN_ID, session.user) and settle(session, RUN_ID) is None


def test_a_record_that_is_being_removed_is_no_run(session: Session) -> None:
    begun(session.store)
    decide(session.store.own, RUN_ID, WITHDRAWN)
    # Who was submitting it has removed this much.
    Path(session.store.own.run(RUN_ID).request).unlink()
    assert settle(session, RUN_ID) is None


def test_of_what_cannot_go_on_nothing_is_left(session: Session) -> None:
    begun(session.store)
    Path(session.store.own.active, f".given-{RUN_ID}").mkdir()
    with pytest.raises(StoreError, match=f"cannot decide about run {RUN_ID}"):
        go_on(session.store, RUN_ID)
    assert not session.store.has(RUN_ID, session.store.user)


def test_what_goes_on_is_there_for_who_asks(session: Session) -> None:
    begun(session.store)
    go_on(session.store, RUN_ID)
    record = settle(session, RUN_ID)
    assert record is not None and record.run_id == RUN_ID


def test_submissions_are_asked_about_where_they_went(tmp_path: Path) -> None:
    here, there = Pending(tmp_path, "far:"), Pending(tmp_path, "other:/history")
    assert here.runs() == []
    for age, run_id in ((2, "a_1_00000000"), (9, "b_1_00000000"), (KEPT + 9, "c_1_00000000")):
        with here.noted(run_id):
            pass
        file = tmp_path / "pending" / f"{run_id}.json"
        os.utime(file, (0, time.time() - age))
    with there.noted("d_1_00000000"):
        pass
    assert here.runs() == ["b_1_00000000", "a_1_00000000"] and there.runs() == ["d_1_00000000"]
    here.remove("b_1_00000000")
    assert here.runs() == ["a_1_00000000"]


def test_what_cannot_be_noted_is_not_submitted(tmp_path: Path) -> None:
    (tmp_path / "pending").write_text("no folder")
    noted = Pending(tmp_path, "far:").noted("a_1_00000000")
    told = r"cannot note in .*/pending what is submitted: File ex"
    with pytest.raises(StoreError, match=told), noted:
        pass


def test_who_is_at_work_on_a_submission_is_the_only_one_to_ask_of_it(tmp_path: Path) -> None:
    pending = Pending(tmp_path, "far:")
    with pending.noted("b_1_0"):
        assert Pending(tmp_path, "far:").runs() == [] and pending.has("b_1_0")
    assert Pending(tmp_path, "other:").runs() == [] and pending.runs() == ["b_1_0"]
    pending.remove("b_1_0")
    words = [sys.executable, "-c", NOTE, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"noted\n"
        assert pending.runs() == []
        other.kill()
    assert pending.runs() == ["a_1_0"]
