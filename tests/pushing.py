"""A program of lena's: scans a folder and brings its snapshot to a workspace over SSH.

`python pushing.py SOURCE HOST HPCRUN WORKSPACE` prints `pushed`, `was there`, or the error as JSON;
on standard error how far it has come, and at the end the seconds that it took. The steps go over
one connection, and rsync has one that notices soon when it is cut.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from hpcrun.errors import HpcrunError, TransportError
from hpcrun.site.access import Access, Endpoint
from hpcrun.snapshot import scan
from hpcrun.transport.channel import connect
from hpcrun.transport.ssh import Login
from hpcrun.transport.upload import Far, upload
from hpcrun.workflow.connection import ask
from hpcrun.workflow.elsewhere import Elsewhere

SSH = ["ssh", "-oBatchMode=yes", "-oServerAliveInterval=1", "-oServerAliveCountMax=2"]


def main(source: str, host: str, hpcrun: str, workspace: str) -> None:
    cache = Path.home() / "cache"
    manifest = scan(Path(source), cache=cache)
    login = Login(host, Endpoint(host), Access(command=hpcrun, connect_gap_seconds=0))
    place = Elsewhere(login, workspace)
    with connect(login, cache, alone=True) as channel:

        def step(name: str, text: str) -> str:
            code, output, said = ask(channel, place, ["receive", name], {"-": text})
            if code:
                raise TransportError(said.decode(), transient=True)
            return output.decode()

        def tell(done: int, total: int) -> None:
            print("progress", done, total, file=sys.stderr)

        far = Far(host, f"{host}:{workspace}", step, lambda: [*SSH, host])
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
