"""Running a command: what is heard of it, and what is said while nothing is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hpcrun.scheduler.command
from hpcrun.scheduler.command import Answer, Late, Missing, run


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hpcrun.scheduler.command, "QUIET", 0.2)


def sh(script: str, timeout: float = 60) -> Answer:
    return run(["sh", "-c", script], os.environ, timeout)


def test_an_answer_comes_back_whole_and_in_silence(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hpcrun.scheduler.command, "QUIET", 60.0)
    assert sh("echo out; echo bad >&2; exit 3") == Answer(3, "out\n", "bad\n")
    assert sh("kill -9 $$").status == -9
    assert caplog.messages == []


@pytest.mark.usefixtures("impatient")
def test_who_is_kept_waiting_is_told_at_once_for_what(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the command goes on: it ends once the word was said."""
    said = tmp_path / "said"

    class Heard:
        def filter(self, record: object) -> bool:
            said.touch()
            return True

    caplog.handler.addFilter(Heard())  # type: ignore[arg-type]
    slow = f"echo early; while [ ! -e {said} ]; do sleep 0.05; done; echo late"
    assert sh(slow) == Answer(0, "early\nlate\n", "")
    assert caplog.messages == [
        "hpcrun: waiting for Slurm: sh has not answered yet, and is given 60 s"
    ]


def test_what_is_late_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Late, match="did not answer within 3 s"):
        sh(f"echo $$ >{tmp_path}/pid; exec sleep 600", 3)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_what_is_not_there() -> None:
    with pytest.raises(Missing, match="no-such-command cannot be run"):
        run(["no-such-command"], os.environ, 60)
