"""Runs a piece of a test without root's rights, where the tests run as root."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcrun.errors import HpcrunError

NOBODY = 65534

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root to give files away")


def let_everybody_reach(folder: Path) -> None:
    """Opens a test's folder, and those of pytest's own that it lies in."""
    temporary = Path(tempfile.gettempdir()).resolve()
    for each in (folder, *folder.resolve().parents):
        if temporary in each.resolve().parents:
            each.chmod(0o755)


def as_ordinary_user(act: Callable[[], object]) -> str:
    """The name and words of the error that `act` ends with, in a child that is not root."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "no error"
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            act()
        except HpcrunError as error:
            answer = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, answer.encode())
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as stream:
        return stream.read().decode()
