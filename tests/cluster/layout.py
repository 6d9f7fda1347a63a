"""Names, addresses, sizes and folders of the test cluster. Values only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class User(NamedTuple):
    """An ordinary user, with a private group of the same name and number."""

    name: str
    uid: int


class Group(NamedTuple):
    """A group that all users are in; also the name of their Slurm account."""

    name: str
    gid: int


class Host(NamedTuple):
    """A host of the cluster: namespaces of this machine with a name and an address."""

    name: str
    address: str


# Debian leaves 60001 to 61183 unassigned.
LAB = Group("lab", 61000)
USERS = (User("alice", 61001), User("bob", 61002))

NETWORK = "10.213.97"
CONTROLLER = Host("ctl", f"{NETWORK}.254")
LOGIN = Host("login", f"{NETWORK}.253")
NODES = tuple(Host(f"n{number}", f"{NETWORK}.{number}") for number in range(1, 5))
HOSTS = (CONTROLLER, LOGIN, *NODES)
BRIDGE = "hpcrunbr0"

CLUSTER = "hpcrun"
CPUS, MEMORY_MB, GPUS = 8, 16000, 4

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
"""Where programs are found, by daemons and by users."""


@dataclass(frozen=True)
class Layout:
    """The folders of a cluster, all below one root."""

    root: Path

    @classmethod
    def default(cls) -> Layout:
        """Below HPCRUN_CLUSTER_DIR, or /srv/hpcrun-cluster."""
        return cls(Path(os.environ.get("HPCRUN_CLUSTER_DIR") or "/srv/hpcrun-cluster"))

    @property
    def mark(self) -> Path:
        """A file that says that the root was made by this tool, and may be emptied by it."""
        return self.root / ".hpcrun-test-cluster"

    @property
    def etc(self) -> Path:
        """Configuration files."""
        return self.root / "etc"

    @property
    def slurm(self) -> Path:
        """What stands at /etc/slurm on every host."""
        return self.etc / "slurm"

    @property
    def prolog(self) -> Path:
        """What every node runs before a job, if it is there."""
        return self.slurm / "prolog.sh"

    @property
    def ssh(self) -> Path:
        """Keys, and the known_hosts that goes with them; for root only."""
        return self.etc / "ssh"

    @property
    def log(self) -> Path:
        """Logs of the daemons."""
        return self.root / "log"

    @property
    def run(self) -> Path:
        """Process ids and sockets."""
        return self.root / "run"

    @property
    def state(self) -> Path:
        """What the daemons keep."""
        return self.root / "state"

    @property
    def shared(self) -> Path:
        """A folder that every user can write, on all hosts."""
        return self.root / "shared"

    @property
    def cache(self) -> Path:
        """What outlives the cluster: virtual environments, an empty database."""
        return self.root / "cache"

    @property
    def network(self) -> Path:
        """Where a network file system is mounted on hosts."""
        return self.root / "network"

    @property
    def served(self) -> Path:
        """What the login node serves there."""
        return self.state / "served"

    @property
    def failed_logs(self) -> Path:
        """The logs of the last cluster that did not come up."""
        return self.cache / "failed-logs"

    def tmp(self, host: str) -> Path:
        """What stands at /tmp on a host."""
        return self.root / "tmp" / host

    def home(self, user: str) -> Path:
        """A user's home."""
        return self.root / "home" / user

    def key(self, user: str) -> Path:
        """The private key with which root logs in as a user."""
        return self.ssh / f"id_{user}"

    def pid_file(self, daemon: str) -> Path:
        """Where a daemon's process id stands."""
        return self.run / f"{daemon}.pid"

    def output(self, daemon: str) -> Path:
        """What a daemon writes to its standard output and error."""
        return self.log / f"{daemon}.out"
