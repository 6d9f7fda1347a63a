"""The bar of a transfer: at a terminal, after a second, with bytes and a rate."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from hpcrun.cli.progress import transfer

with transfer("to the site") as tell:
    for n in range(int(sys.argv[1]) + 1):
        if tell is not None:
            tell(n << 20, 12 << 20)
        time.sleep(0.15)
"""


def told(count: int, stderr: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", PROGRAM, str(count)]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    return subprocess.Popen(words, stderr=stderr, env=env)


@pytest.mark.parametrize(("count", "is_long"), [(12, True), (0, False)])
def test_a_terminal_has_a_bar_after_a_second(count: int, is_long: bool) -> None:
    ours, its = os.openpty()
    text = b""
    with told(count, its):
        os.close(its)
        while True:
            try:
                text += os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    assert (b"to the site" in text) == is_long
    assert (b"12.0/12.0 MiB" in text) == is_long
    assert (b"/s" in text) == is_long


def test_who_does_not_look_is_told_nothing() -> None:
    with told(12, subprocess.PIPE) as process:
        _, text = process.communicate()
    assert text == b""
