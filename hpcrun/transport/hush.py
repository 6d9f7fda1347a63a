"""Runs ssh for rsync, and keeps from it what a login shell prints before rsync's other half.

A program of its own, standard library only: `hush.py COUNT SSH… far COMMAND…`, where COUNT words
log in (with the host, the last of them), `far` is what rsync takes for the host, and COMMAND is run
there. What the variable HPCRUN_MEANWHILE holds runs in the background while COMMAND does.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

MARK = b"\nhpcrun-rsync-begins\n"

MEANWHILE = "HPCRUN_MEANWHILE"

MOST_NOISE = 1 << 20
"""Bytes that a shell may print before."""

_BLOCK = 1 << 18


def command(words: Sequence[str], meanwhile: str) -> list[str]:
    """What is run for these words of the command line."""
    count = int(words[0])
    login, remote = words[1 : count + 1], words[count + 2 :]
    line = " ".join(remote)  # rsync has quoted its words for a shell
    if meanwhile:
        line = "sh -c " + shlex.quote(f"{meanwhile} >/dev/null 2>&1 & exec {line}")
    # Any shell takes this, csh as well.
    mark = MARK.decode().replace("\n", "\\n")
    return [*login, f"printf '{mark}'; exec {line}"]


def main(words: Sequence[str]) -> int:
    """The exit code of ssh."""
    os.set_blocking(1, True)  # rsync makes its pipes such that they do not
    with subprocess.Popen(
        command(words, os.environ.get(MEANWHILE, "")), stdout=subprocess.PIPE
    ) as ssh:
        assert ssh.stdout is not None
        source = ssh.stdout.fileno()
        data = b""
        while MARK not in data:
            more = os.read(source, _BLOCK)
            data += more
            if not more or len(data) > MOST_NOISE:
                ssh.kill() if more else None
                sys.stderr.buffer.write(data[-500:])
                return _exit_code(ssh.wait())
        data = data.partition(MARK)[2]
        try:
            while True:
                _write(data)
                data = os.read(source, _BLOCK)
                if not data:
                    break
        except BrokenPipeError:
            ssh.kill()
    return _exit_code(ssh.returncode)


def _exit_code(code: int) -> int:
    """ssh's own for a connection that is lost, where it was killed."""
    return code if code >= 0 else 255


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
