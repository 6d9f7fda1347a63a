"""Runs on this machine, of a script that is a text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Environment, Experiment, Run, ScriptRunConfig, Workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace, with a cache beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "source").mkdir()
    return Workspace(tmp_path / "history")


def submit(workspace: Workspace, tmp_path: Path, text: str, **more: Any) -> Run:
    """Starts a run of this text by this very interpreter. more: of its configuration."""
    (tmp_path / "source/train.py").write_text(text)
    environment = Environment("this")
    environment.python.interpreter_path = sys.executable
    config = ScriptRunConfig(tmp_path / "source", "train.py", environment=environment, **more)
    return Experiment(workspace, "again").submit(config)
