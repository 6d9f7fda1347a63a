"""Taking turns at a lock, and doing without one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hpcrun.turns import alone
from tests.lab import eventually


def test_who_comes_second_says_that_it_waits(tmp_path: Path) -> None:
    lock, said, done = tmp_path / "made" / "lock", [], threading.Event()

    def second() -> None:
        with alone(lock, said.append):
            done.set()

    waiting = threading.Thread(target=second)
    with alone(lock):
        waiting.start()
        eventually(lambda: said)
        assert not done.is_set()
    waiting.join(120)
    assert done.is_set() and said == ["waiting for another process that does the same"]


def test_nobody_is_waited_for_for_ever(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As where a host is lost, and its file server keeps the lock for it."""
    with alone(tmp_path / "lock"):
        second = threading.Thread(target=lambda: _turn(tmp_path / "lock"))
        second.start()
        second.join(120)
        assert not second.is_alive()
    assert f"not waiting any more for who has {tmp_path}/lock" in capsys.readouterr().err


def _turn(lock: Path) -> None:
    with alone(lock, patience=0.1):
        pass


def test_where_no_lock_can_be_it_is_said_and_done_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for no_lock in (tmp_path, tmp_path / "file" / "lock"):
        with alone(no_lock):
            pass
        assert f"hpcrun: no lock on {no_lock}: " in capsys.readouterr().err
