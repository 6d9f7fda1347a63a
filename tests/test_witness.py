"""Telling facts through a file system that fails at any of its calls."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcrun.agent.witness import Witness
from hpcrun.journal import Journal
from hpcrun.layout import Attempt
from hpcrun.record import Fact, decode_page


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent-1.0.jsonl"


def told(path: Path) -> list[Fact]:
    page = decode_page(path.read_bytes())
    assert page.bad_lines == 0
    return page.facts


@pytest.mark.parametrize("kept", [0, 1, 2], ids=["nothing", "a-part", "all"])
def test_what_a_failed_sync_lost_is_told_again_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """A network file system takes lines, and tells at the sync that it has not kept them all."""
    witness = Witness(Journal(str(path), Attempt(1, 0)))
    witness.tell("heartbeat", {"count": 1})
    safe = path.read_bytes()
    witness.tell("heartbeat", {"count": 2}, sync=False)
    witness.tell("heartbeat", {"count": 3}, sync=False)
    lines = path.read_bytes()[len(safe) :].splitlines(True)

    def lose(descriptor: int) -> None:
        path.write_bytes(safe + b"".join(lines[:kept]))
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lose)
        assert not witness.settle()
    assert witness.error is not None
    assert witness.settle()
    facts = told(path)
    assert [fact.data["count"] for fact in facts] == [1, 2, 3]
    assert len({fact.number for fact in facts}) == 3


@pytest.mark.parametrize("goes", [Path.unlink, lambda path: None], ids=["a-new-file", "the-same"])
def test_a_descriptor_that_is_dead_is_left(
    path: Path, monkeypatch: pytest.MonkeyPatch, goes: Callable[[Path], None]
) -> None:
    """As after a mount that was lost and made anew: the old descriptor never syncs again."""
    witness = Witness(Journal(str(path), Attempt(1, 0)))
    witness.tell("running", {"command": ["a"]}, sync=False)
    opened = {int(fd.name) for fd in Path("/proc/self/fd").iterdir() if fd.resolve() == path}
    sync = os.fsync

    def fail(descriptor: int) -> None:
        if descriptor in opened:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    assert len(opened) == 1 and not witness.settle()
    with path.open("rb"):  # the number of the dead one is taken
        goes(path)
        assert witness.settle()
    assert [fact.kind for fact in told(path)] == ["running"]
