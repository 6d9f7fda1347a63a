"""Hosts: a process that holds network, mount and host-name namespaces, and a cable to the bridge.

No namespace has a name and no mount is visible to this machine: all of a host goes away with its
processes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.failure import ClusterError
from tests.cluster.layout import BRIDGE, CONTROLLER, HOSTS, NODES, Host, Layout
from tests.cluster.processes import call, pid, start, wait_for, wait_until


def make_bridge() -> None:
    """The network between the hosts; the controller has this machine's end of it."""
    call(["ip", "link", "add", BRIDGE, "type", "bridge"])
    call(["ip", "address", "add", f"{CONTROLLER.address}/24", "dev", BRIDGE])
    call(["ip", "link", "set", BRIDGE, "up"])


def remove_network() -> None:
    """Removes the bridge and this machine's ends of the cables, as far as they are there."""
    for name in (BRIDGE, *(_cable(host) for host in HOSTS)):
        if Path("/sys/class/net", name).exists():
            call(["ip", "link", "delete", name], check=False)


def write_names(layout: Layout) -> None:
    """What stands at /etc/hosts on every host."""
    lines = ["127.0.0.1 localhost", *(f"{host.address} {host.name}" for host in HOSTS)]
    (layout.etc / "hosts").write_text("\n".join(lines) + "\n")


def make_host(layout: Layout, host: Host) -> None:
    """A host with its own name, /tmp, /run and /dev/shm, connected to the bridge.

    The controller has no network of its own: it is reached at this machine's end of the bridge.
    """
    own_network = host != CONTROLLER
    layout.tmp(host.name).mkdir(parents=True)
    layout.tmp(host.name).chmod(0o1777)
    ready = layout.run / f"{host.name}.ready"
    script = "\n".join(
        (
            "set -e",
            f"hostname {host.name}",
            f"mount --bind {layout.tmp(host.name)} /tmp",
            "mount -t tmpfs -o mode=755 run /run",
            "mkdir /run/sshd /run/munge /run/slurm",
            "mkdir -m 1777 /run/lock",
            "mount -t tmpfs -o mode=1777 shm /dev/shm",
            # The place that is compiled in, so that commands need no SLURM_CONF.
            f"mount --bind {layout.slurm} /etc/slurm",
            f"mount --bind {layout.etc}/hosts /etc/hosts",
            f"touch {ready}",
            "exec sleep infinity",
        )
    )
    # "ip netns exec" would mount /sys anew, without the cgroup file systems below it.
    spaces = ["--mount", "--uts", *(["--net"] if own_network else [])]
    words = ["unshare", *spaces, "--propagation", "private", "bash", "-c", script]
    start(layout, holder(host.name), words)
    wait_for(layout, holder(host.name), ready.exists, 20)
    if own_network:
        _connect(layout, host)


def _connect(layout: Layout, host: Host) -> None:
    process = pid(layout, holder(host.name))
    cable = _cable(host)
    words = ["ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0"]
    call([*words, "netns", str(process)])
    call(["ip", "link", "set", cable, "master", BRIDGE, "up"])
    within = ["nsenter", "--target", str(process), "--net"]
    call([*within, "ip", "address", "add", f"{host.address}/24", "dev", "eth0"])
    call([*within, "ip", "link", "set", "eth0", "up"])
    call([*within, "ip", "link", "set", "lo", "up"])


def set_link(name: str, up: bool) -> None:
    """Cuts a host off the network, or connects it again."""
    host = next((host for host in HOSTS if host.name == name and host != CONTROLLER), None)
    if host is None:
        raise ClusterError(f"no host {name} with a link of its own")
    call(["ip", "link", "set", _cable(host), "up" if up else "down"])


def inside(layout: Layout, name: str, words: Sequence[str]) -> list[str]:
    """The words that run a command on a host, as root."""
    process = pid(layout, holder(name))
    if process is None:
        raise ClusterError(f"host {name} is not up")
    spaces = ["--mount", "--uts", *(["--net"] if name != CONTROLLER.name else [])]
    return ["nsenter", "--target", str(process), *spaces, "--", *words]


def view(layout: Layout, name: str, path: Path) -> Path:
    """A host's path as root on this machine reaches it."""
    process = pid(layout, holder(name))
    if process is None:
        raise ClusterError(f"host {name} is not up")
    return Path(f"/proc/{process}/root", *path.parts[1:])


def remove_cgroups() -> None:
    """Removes what killed daemons left in the cgroup file systems."""
    names = [name for node in NODES for name in (f"slurm_{node.name}", f"{node.name}_slurmstepd*")]
    mounted = Path("/sys/fs/cgroup")
    for name in names:
        for group in (*mounted.glob(f"*/{name}"), *mounted.glob(f"*/*/{name}")):
            for folder, _, _ in os.walk(group, topdown=False):
                # A group stays busy for a moment after its last process has ended.
                _patiently_remove(Path(folder))


def _patiently_remove(folder: Path) -> None:
    def gone() -> bool:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    wait_until(gone, 5, f"the cgroup {folder} stays busy")


def holder(name: str) -> str:
    """The name of the process that holds a host's namespaces."""
    return f"host-{name}"


def _cable(host: Host) -> str:
    return f"hpcrun-{host.name}"
