"""The cluster's munged, one on every host as on a real cluster, all with one key of their own.

Slurm takes a job's AllocNode from the address that munged writes into a credential (22.05).
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.cluster.hosts import inside, view
from tests.cluster.layout import Layout
from tests.cluster.processes import start, wait_for

_SOCKET = Path("/run/munge/munge.socket.2")
"""The place that is compiled in."""


def make_key(layout: Layout) -> None:
    """The key that all hosts share."""
    key = layout.etc / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))


def start_munge(layout: Layout, host: str) -> None:
    """Starts a host's munged and waits for its socket."""
    words = [
        "munged",
        "--foreground",
        f"--key-file={layout.etc}/munge.key",
        f"--socket={_SOCKET}",
        "--pid-file=/run/munge/munged.pid",
        f"--log-file={layout.log}/munged-{host}.log",
        f"--seed-file={layout.state}/munge-{host}.seed",
    ]
    start(layout, f"munged-{host}", inside(layout, host, words))
    wait_for(layout, f"munged-{host}", view(layout, host, _SOCKET).exists)
