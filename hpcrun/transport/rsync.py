"""rsync over the ssh that hpcrun logs in with: run to its end, and what its failures mean."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

from hpcrun.errors import TransportError
from hpcrun.transport import hush
from hpcrun.transport.channel import end

Progress = Callable[[int, int], object]
"""Told of a transfer as it goes on: bytes so far, bytes in all."""

FULL = re.compile(r"No space left on device|Disk quota exceeded")

UNWRITTEN = 11
"""rsync's exit code where the far half could not write; its own words may be lost with it."""

_SILENT = 60
"""Seconds without a byte after which both halves of rsync give up."""

_PERCENT = re.compile(rb"\s([\d,.]+)\s+\d+%")
_LOST = frozenset({10, 12, 30, 35, 255})
"""Exit codes of rsync where the connection was lost (rsync(1), ssh(1))."""


def rsync(ssh: Sequence[str], *options: str) -> list[str]:
    """rsync and its options; the two places follow, of which one begins with `far:`.

    ssh: the words that log in, with the host at the end. What was brought of a file is kept.
    """
    shell = [sys.executable, "-I", hush.__file__, str(len(ssh)), *ssh]
    return [
        *("rsync", "--recursive", "--partial", "--protect-args", f"--timeout={_SILENT}"),
        *options,
        f"--rsh={shlex.join(shell)}",
    ]


def run(
    words: Sequence[str], total: int, progress: Progress | None, meanwhile: str = ""
) -> tuple[int, str]:
    """Runs rsync to its end; gives its exit code, and what it has said.

    total: bytes that there are to send. meanwhile: runs there in the background. TransportError:
    there is no rsync here. What interrupts it ends rsync, too.
    """
    env = {**os.environ, hush.MEANWHILE: meanwhile}
    if progress is not None:
        words = [words[0], "--info=progress2", "--outbuf=N", *words[1:]]
    with tempfile.TemporaryFile() as said:
        try:
            with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said, env=env) as process:
                assert process.stdout is not None
                done = 0
                try:
                    while text := os.read(process.stdout.fileno(), 1 << 16):
                        done = _done(text, done)
                        if progress is not None:
                            progress(min(done, total), total)
                except BaseException:
                    end(process)
                    raise
        except FileNotFoundError as error:
            hint = "files are sent and brought by it: install rsync 3.1 or newer"
            raise TransportError("there is no rsync on this machine", hint) from error
        said.seek(0)
        return process.returncode, said.read().decode(errors="replace")


def _done(text: bytes, before: int) -> int:
    found = _PERCENT.findall(b" " + text.replace(b"\r", b" "))
    return int(re.sub(rb"\D", b"", found[-1])) if found else before


def lines_of(said: str) -> list[str]:
    """What rsync has said, without empty lines."""
    return [line.strip() for line in said.splitlines() if line.strip()]


def failure(code: int, said: str, name: str, doing: str) -> TransportError:
    """What it means that rsync failed, with its own words.

    name: of the other machine. doing: such as `3 MiB were sent`.
    """
    lines = lines_of(said)
    told = f": {lines[0]}" if lines else ""
    if code == 127 or re.search("rsync: .*not found|exec: rsync|rsync: No such", said):
        hint = "files are sent and brought by it: rsync 3.1 or newer must be on the PATH there"
        return TransportError(f"there is no rsync on {name}{told}", hint)
    if code in _LOST:
        return TransportError(
            f"the connection to {name} was lost while {doing}{told}",
            "try again: what has arrived is kept, and the rest is sent",
            transient=True,
        )
    return TransportError(f"rsync to {name} exited {code}{told}")
