"""Hosts: a process that holds network, mount and host-name namespaces, and a cable to the bridge.

No namespace has a name and no mount is visible to this machine: all of a host goes away with its
processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.cluster.failure import ClusterError
from tests.cluster.layout import HOSTS, JUMP, LOGIN, NODES, OUTSIDE, Host, Layout
from tests.cluster.lock import alone
from tests.cluster.processes import LONG, call, pid, start, wait_for, wait_until


def make_bridge(layout: Layout) -> None:
    """The network between the hosts; this machine has an address there too."""
    call(["ip", "link", "add", layout.bridge, "type", "bridge"])
    call(["ip", "link", "set", layout.bridge, "alias", str(layout.base)])
    call(["ip", "address", "add", f"{layout.machine}/24", "dev", layout.bridge])
    call(["ip", "link", "set", layout.bridge, "up"])


def base_of_bridge(layout: Layout) -> Path | None:
    """The base of the cluster that has the bridge of this number; None if there is none."""
    alias = Path("/sys/class/net", layout.bridge, "ifalias")
    text = alias.read_text().strip() if alias.exists() else ""
    return Path(text) if text else None


def remove_network(layout: Layout) -> None:
    """Removes the bridge and this machine's ends of the cables, as far as they are there."""
    _remove_links(layout.bridge)
    disconnect(layout, _ALL)


def disconnect(layout: Layout, some: Iterable[Host]) -> None:
    """Removes the cables of hosts, which may be gone."""
    _remove_links(*(layout.cable(host) for host in some))


def _remove_links(*names: str) -> None:
    for name in names:
        if Path("/sys/class/net", name).exists():
            call(["ip", "link", "delete", name], check=False)


def make_etc(layout: Layout) -> None:
    """What stands at /etc on every host: a copy of this machine's, with the names of hosts.

    A mount over one file of it, such as passwd, would end when the machine gets a new one.
    """
    with alone("packages"):  # what another process installs comes and goes there
        call(["cp", "--archive", "/etc", str(layout.etc)])
    call(["rm", "-rf", str(layout.slurm)])
    layout.slurm.mkdir()
    lines = ["127.0.0.1 localhost", *(f"{layout.address(host)} {host.name}" for host in _ALL)]
    (layout.etc / "hosts").write_text("\n".join(lines) + "\n")


_ALL = (*HOSTS, *OUTSIDE)
_SPACES = ("--mount", "--uts", "--net")
"""What a host has of its own."""


def make_host(layout: Layout, host: Host, hidden: Sequence[Path] = ()) -> None:
    """A host with its own name, /etc, /tmp, /run and /dev/shm, connected to the bridge.

    hidden: folders that are empty there.
    """
    layout.tmp(host.name).mkdir(parents=True, exist_ok=True)
    layout.tmp(host.name).chmod(0o1777)
    ready = layout.run / f"{host.name}.ready"
    ready.unlink(missing_ok=True)
    script = "\n".join(
        (
            "set -e",
            f"hostname {host.name}",
            f"mount --bind {layout.tmp(host.name)} /tmp",
            "mount -t tmpfs -o mode=755 run /run",
            "mkdir /run/sshd /run/munge /run/slurm",
            "mkdir -m 1777 /run/lock",
            "mount -t tmpfs -o mode=1777 shm /dev/shm",
            # /etc/slurm is the place that is compiled in, so that commands need no SLURM_CONF.
            f"mount --bind {layout.etc} /etc",
            *(f"mount -t tmpfs -o size=1m hidden {folder}" for folder in hidden),
            f"touch {ready}",
            "exec sleep infinity",
        )
    )
    # "ip netns exec" would mount /sys anew, without the cgroup file systems below it.
    words = ["unshare", *_SPACES, "--propagation", "private", "bash", "-c", script]
    start(layout, holder(host.name), words)
    wait_for(layout, holder(host.name), ready.exists)
    _connect(layout, host)


def _connect(layout: Layout, host: Host) -> None:
    process = pid(layout, holder(host.name))
    cable = layout.cable(host)
    words = ["ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0"]
    call([*words, "netns", str(process)])
    call(["ip", "link", "set", cable, "master", layout.bridge, "up"])
    within = ["nsenter", "--target", str(process), "--net"]
    call([*within, "ip", "address", "add", f"{layout.address(host)}/24", "dev", "eth0"])
    call([*within, "ip", "link", "set", "eth0", "up"])
    call([*within, "ip", "link", "set", "lo", "up"])


def connect_inside(layout: Layout) -> None:
    """The cable between the jump host and the login node, which no other host is on."""
    ends = {host: pid(layout, holder(host.name)) for host in (JUMP, LOGIN)}
    # That of an earlier jump host may be there still.
    call(inside(layout, LOGIN.name, ["ip", "link", "delete", "eth1"]), check=False)
    words = ["ip", "link", "add", "eth1", "netns", str(ends[JUMP]), "type", "veth"]
    call([*words, "peer", "name", "eth1", "netns", str(ends[LOGIN])])
    for host, process in ends.items():
        within = ["nsenter", "--target", str(process), "--net", "ip"]
        call([*within, "address", "add", f"{layout.inner(host)}/24", "dev", "eth1"])
        call([*within, "link", "set", "eth1", "up"])


def set_link(layout: Layout, name: str, up: bool) -> None:
    """Cuts a host off the network, or connects it again."""
    host = next((host for host in _ALL if host.name == name), None)
    if host is None:
        raise ClusterError(f"no host {name}")
    call(["ip", "link", "set", layout.cable(host), "up" if up else "down"])
    if up:
        # Who asks where another host is, and has had no answer, would give up a moment later.
        call(inside(layout, name, ["ip", "neigh", "flush", "dev", "eth0"]))


def inside(layout: Layout, name: str, words: Sequence[str]) -> list[str]:
    """The words that run a command on a host, as root."""
    process = pid(layout, holder(name))
    if process is None:
        raise ClusterError(f"host {name} is not up")
    return ["nsenter", "--target", str(process), *_SPACES, "--", *words]


def view(layout: Layout, name: str, path: Path) -> Path:
    """A host's path as root on this machine reaches it."""
    process = pid(layout, holder(name))
    if process is None:
        raise ClusterError(f"host {name} is not up")
    return Path(f"/proc/{process}/root", *path.parts[1:])


def has_controllers() -> bool:
    """Whether cgroups are of version 1, one tree for each controller, as on a hybrid machine.

    Only there the jobs of several clusters are kept apart.
    """
    return Path("/sys/fs/cgroup/memory").is_dir()


def make_cgroups(layout: Layout) -> None:
    """The groups of this cluster's jobs, as links where Slurm looks for the file systems.

    Slurm calls a node's group slurm_n1, in every cluster, and puts it at the top (22.05).
    """
    layout.cgroups.mkdir()
    for controller in _CONTROLLERS if has_controllers() else ():
        group = _CGROUPS / controller / layout.cgroup
        group.mkdir(parents=True)
        (layout.cgroups / controller).symlink_to(group)


def remove_cgroups(layout: Layout) -> None:
    """Removes what killed daemons left in the cgroup file systems."""
    top = Path(layout.cgroup).parts[0]
    # Version 2 has the nodes' groups of its one cluster below the top or a slice.
    version_2 = [f"{depth}{node.name}_slurmstepd*" for depth in ("", "*/") for node in NODES]
    for pattern in (f"*/{top}", *(version_2 if not has_controllers() else ())):
        for group in _CGROUPS.glob(pattern):
            for folder, _, _ in os.walk(group, topdown=False):
                # A group stays busy for a moment after its last process has ended.
                _patiently_remove(Path(folder))


_CGROUPS = Path("/sys/fs/cgroup")
_CONTROLLERS = ("cpuacct", "freezer", "memory")
"""Those that Slurm uses as long as neither cores nor devices are constrained."""


def _patiently_remove(folder: Path) -> None:
    def gone() -> bool:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    wait_until(gone, LONG, f"the cgroup {folder} stays busy")


def holder(name: str) -> str:
    """The name of the process that holds a host's namespaces."""
    return f"host-{name}"
