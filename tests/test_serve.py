"""The far side of a connection, as far as no other machine is needed; see test_remote_cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from hpcrun.transport.wire import MARK, PROTOCOL, Decoder, Exit, Hello, Request, encode
from tests.lab import eventually

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


def test_who_is_killed_there_tells_no_exit_code(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "runs.tar")  # of which nobody writes a byte
    words = ["store", "import", str(tmp_path / "runs.tar")]
    request = Request(str(tmp_path / "history"), words, [], {}, {}, {})
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-m", "hpcrun", "serve"], **pipes) as serving:
        assert serving.stdin is not None
        serving.stdin.write(encode(Hello(PROTOCOL, "")) + encode(request))
        serving.stdin.flush()
        children = Path(f"/proc/{serving.pid}/task/{serving.pid}/children")
        command = int(eventually(children.read_text))
        os.kill(command, signal.SIGKILL)
        out, said = serving.communicate(timeout=180)
    assert said == b"signal 9 has ended the command there\n"
    assert not any(isinstance(frame, Exit) for frame in Decoder(greets=True).feed(out))
