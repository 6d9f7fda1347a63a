"""The far side of a connection, as far as no other machine is needed; see test_remote_cluster."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from hpcrun.transport.wire import (
    MARK,
    PROTOCOL,
    Decoder,
    Exit,
    Frame,
    Hello,
    Interrupt,
    Request,
    encode,
)
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


@contextlib.contextmanager
def serving(folder: Path, *more: Frame) -> Iterator[subprocess.Popen[bytes]]:
    """A server that runs a command which does not end by itself. more: what it hears at once."""
    os.mkfifo(folder / "runs.tar")  # of which nobody writes a byte
    words = ["store", "import", str(folder / "runs.tar")]
    request = Request(str(folder / "history"), words, [], {}, {}, {})
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-m", "hpcrun", "serve"], **pipes) as process:
        try:
            assert process.stdin is not None
            frames = (Hello(PROTOCOL, ""), request, *more)
            process.stdin.write(b"".join(map(encode, frames)))
            process.stdin.flush()
            yield process
        finally:
            process.kill()


def test_who_is_killed_there_tells_no_exit_code(tmp_path: Path) -> None:
    with serving(tmp_path) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        os.kill(int(eventually(children.read_text)), signal.SIGKILL)
        out, said = process.communicate(timeout=180)
    assert said == b"signal 9 has ended the command there\n"
    assert not any(isinstance(frame, Exit) for frame in Decoder(greets=True).feed(out))


def test_an_interrupt_that_comes_with_the_request_is_heard(tmp_path: Path) -> None:
    decoder, told = Decoder(greets=True), list[Frame]()
    with serving(tmp_path, Interrupt()) as process:
        assert process.stdout is not None
        output = process.stdout.fileno()

        def has_ended() -> bool:
            if select.select([output], [], [], 1)[0]:
                told.extend(decoder.feed(os.read(output, 1 << 16)))
            return any(isinstance(frame, Exit) for frame in told)

        eventually(has_ended)
    assert told[-1] == Exit(130)
