"""The far side of a connection, as far as no other machine is needed; see test_remote_cluster."""

from __future__ import annotations

import subprocess
import sys

from hpcrun.transport.wire import MARK

SERVE = """\
from hpcrun.cli import serve
from hpcrun.cli.main import main

serve.SILENCE = 0.2
main(["serve"])
"""


def test_who_is_silent_is_not_waited_for_between_two_questions() -> None:
    words = [sys.executable, "-c", SERVE]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as serving:
        try:
            assert serving.wait(180) == 0  # its input is still open: the link is cut
        finally:
            serving.kill()
        assert serving.stdout is not None and MARK in serving.stdout.read()
