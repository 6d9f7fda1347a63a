"""Names, addresses, sizes and folders of a test cluster. Values only.

Several may be up side by side on a machine: all that is a cluster's own follows from its number.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.cluster.failure import ClusterError


class Host(NamedTuple):
    """A host of the cluster: namespaces of this machine with a name and an address."""

    name: str
    number: int
    """The last of its address."""


LAB = "lab"
"""The group that all users are in, and their Slurm account."""

USERS = ("alice", "bob", "carol", "dora")
"""The ordinary users, each with a private group of the same name and number.

carol's shell is tcsh; dora logs in with a one-time code besides her key.
"""

LENA = "lena"
"""Who owns the laptop; the cluster knows nothing of her."""

ACCOUNTS = (*USERS, LENA)

CONTROLLER = Host("ctl", 254)
LOGIN = Host("login", 253)
NODES = tuple(Host(f"n{number}", number) for number in range(1, 5))
HOSTS = (CONTROLLER, LOGIN, *NODES)

LAPTOP = Host("laptop", 240)
JUMP = Host("jump", 241)
OUTSIDE = (LAPTOP, JUMP)
"""Hosts that are no part of the cluster: from them it is reached by SSH only."""

MOST = 10
"""How many clusters a machine may have: they are numbered from 0."""

CLUSTER = "hpcrun"
CPUS, MEMORY_MB, GPUS = 8, 16000, 4

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
"""Where programs are found, by daemons and by users."""


@dataclass(frozen=True)
class Layout:
    """What a cluster has of its own on this machine; its folders lie below one root."""

    number: int
    base: Path
    """Where cluster 0 lies, and the cache of all."""

    @classmethod
    def default(cls, after: int = 0) -> Layout:
        """The cluster of number HPCRUN_CLUSTER (0 unless set), or one so many after it.

        It lies at HPCRUN_CLUSTER_DIR, or /srv/hpcrun-cluster. ClusterError for no such number.
        """
        text = os.environ.get("HPCRUN_CLUSTER") or "0"
        if not text.isdecimal() or int(text) + after >= MOST:
            more = f" and {after} more" if after else ""
            raise ClusterError(f"HPCRUN_CLUSTER must be 0 to {MOST - 1}: {text}{more}")
        base = Path(os.environ.get("HPCRUN_CLUSTER_DIR") or "/srv/hpcrun-cluster")
        return cls(int(text) + after, base)

    @property
    def root(self) -> Path:
        """The folder that holds all of it but the cache."""
        if self.number == 0:
            return self.base
        return self.base.with_name(f"{self.base.name}-{self.number}")

    @property
    def bridge(self) -> str:
        """The network between its hosts."""
        return f"hpcrunbr{self.number}"

    def cable(self, host: Host) -> str:
        """This machine's end of a host's cable."""
        return f"hpcrun{self.number}-{host.name}"

    @property
    def machine(self) -> str:
        """This machine's address on the bridge."""
        return f"10.213.{97 + self.number}.250"

    def address(self, host: Host) -> str:
        """A host's address."""
        return f"10.213.{97 + self.number}.{host.number}"

    def inner(self, host: Host) -> str:
        """The address of the login node or the jump host on the cable between these two."""
        return f"10.213.{197 + self.number}.{host.number}"

    @property
    def gid(self) -> int:
        """The group's number. Debian leaves 60001 to 61183 unassigned."""
        return 61000 + 10 * self.number

    def uid(self, user: str) -> int:
        """A user's number, and that of the private group."""
        return self.gid + 1 + ACCOUNTS.index(user)

    def shell(self, user: str) -> str:
        """A user's login shell."""
        return "/bin/tcsh" if user == "carol" else "/bin/bash"

    @property
    def cgroup(self) -> str:
        """The group below which its jobs are, under each controller."""
        return f"hpcrun-{self.number}/jobs"

    @property
    def mark(self) -> Path:
        """A file that says that the root was made by this tool, and may be emptied by it."""
        return self.root / ".hpcrun-test-cluster"

    @property
    def etc(self) -> Path:
        """What stands at /etc on every host."""
        return self.root / "etc"

    @property
    def slurm(self) -> Path:
        """Slurm's configuration."""
        return self.etc / "slurm"

    @property
    def prolog(self) -> Path:
        """What every node runs before a job, if it is there."""
        return self.slurm / "prolog.sh"

    @property
    def ssh(self) -> Path:
        """Keys, and the known_hosts that goes with them; for root only."""
        return self.root / "ssh"

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
        """What outlives clusters, and all share: virtual environments, an empty database."""
        return self.base / "cache"

    @property
    def cgroups(self) -> Path:
        """What Slurm takes for the place where the cgroup file systems are mounted."""
        return self.run / "cgroup"

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
        return self.cache / f"failed-logs-{self.number}"

    def tmp(self, host: str) -> Path:
        """What stands at /tmp on a host."""
        return self.root / "tmp" / host

    @property
    def homes(self) -> Path:
        """The homes of the cluster's users."""
        return self.root / "home"

    def home(self, user: str) -> Path:
        """A user's home: lena's is on the laptop only."""
        return self.root / "laptop" if user == LENA else self.homes / user

    @property
    def small(self) -> Path:
        """Where a small disk is mounted on the login node."""
        return self.root / "small"

    def key(self, user: str) -> Path:
        """The private key with which root logs in as a user."""
        return self.ssh / f"id_{user}"

    def pid_file(self, daemon: str) -> Path:
        """Where a daemon's process id stands."""
        return self.run / f"{daemon}.pid"

    def output(self, daemon: str) -> Path:
        """What a daemon writes to its standard output and error."""
        return self.log / f"{daemon}.out"
