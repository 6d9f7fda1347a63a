"""A program of lena's: scans a folder and brings its snapshot to a workspace over SSH.

`python pushing.py SOURCE HOST HPCRUN WORKSPACE` prints `pushed`, `was there`, or the error as JSON;
on standard error how far it has come, and at the end the seconds that it took.
Each step is asked over a connection of its own.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from hpcrun.errors import HpcrunError, TransportError
from hpcrun.snapshot import scan
from hpcrun.transport.upload import Far, upload

SSH = ["ssh", "-oBatchMode=yes", "-oServerAliveInterval=1", "-oServerAliveCountMax=2"]


def main(source: str, host: str, hpcrun: str, workspace: str) -> None:
    def ask(step: str, text: str) -> str:
        words = [*SSH, host, shlex.join([hpcrun, "-w", workspace, "receive", step])]
        done = subprocess.run(words, input=text, capture_output=True, text=True)
        if done.returncode:
            raise TransportError(done.stderr, transient=True)
        return done.stdout.splitlines()[-1]  # a login shell may have printed something before

    def tell(done: int, total: int) -> None:
        print("progress", done, total, file=sys.stderr)

    far = Far(host, f"{host}:{workspace}", ask, [*SSH, host])
    cache = Path.home() / "cache"
    manifest = scan(Path(source), cache=cache)
    print("begins", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    try:
        was_new = upload(manifest, Path(source), far, cache, tell)
    except HpcrunError as error:
        kind = type(error).__name__
        print(json.dumps({"kind": kind, "message": str(error), "transient": error.transient}))
        return
    print("pushed" if was_new else "was there")
    print(time.monotonic() - began, file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
