"""A network file system: what the login node serves, mounted on hosts through FUSE (sshfs).

Each host has a client of its own with its own caches, as it would of NFS or Lustre. Server and
mounts lie in the namespaces of hosts: this machine sees none of them, and they go away with the
cluster, however it ends.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from tests.cluster import packages
from tests.cluster.failure import NotHere
from tests.cluster.hosts import holder, inside
from tests.cluster.layout import HOSTS, LOGIN, USERS, Layout
from tests.cluster.login import ssh_words
from tests.cluster.processes import call, pid, start, stop, wait_for

OWNER = USERS[0]
"""Whose files they are: all that is done there is done as this user, by whomever."""

SIZE = 96 << 20
"""Bytes that it holds. It lies in memory: a full one is nobody else's."""

REMEMBERED = 1
"""Seconds for which a client remembers names, lengths and times, and the kernel one more."""

_DEVICE = Path("/dev/fuse")


def mount(layout: Layout, names: Iterable[str]) -> None:
    """Mounts it anew on hosts. NotHere where this machine cannot."""
    packages.install_fuse()
    if not _DEVICE.exists() or not stat.S_ISCHR(_DEVICE.stat().st_mode):
        raise NotHere(f"there is no {_DEVICE}: this kernel has no FUSE, or hides it")
    layout.network.mkdir(exist_ok=True)
    layout.served.mkdir(exist_ok=True)
    if not is_mounted(layout, LOGIN.name, layout.served):
        uid = layout.uid(OWNER)
        options = f"size={SIZE},uid={uid},gid={uid},mode=755"
        words = ["mount", "-t", "tmpfs", "-o", options, "served", str(layout.served)]
        call(inside(layout, LOGIN.name, words))
    for name in names:
        _unmount(layout, name)
        start(layout, client(name), inside(layout, name, _words(layout)))
    for name in names:
        wait_for(layout, client(name), partial(_is_served, layout, name))


def unmount(layout: Layout) -> None:
    """Removes all mounts and what was served."""
    for host in HOSTS:
        if pid(layout, holder(host.name)) is not None:
            _unmount(layout, host.name)
    if pid(layout, holder(LOGIN.name)) is not None:
        while is_mounted(layout, LOGIN.name, layout.served):
            call(inside(layout, LOGIN.name, ["umount", "--lazy", str(layout.served)]))


def is_mounted(layout: Layout, name: str, path: Path) -> bool:
    """Whether something is mounted at a path of a host."""
    table = Path(f"/proc/{pid(layout, holder(name))}/mountinfo").read_text()
    return any(line.split()[4] == str(path) for line in table.splitlines())


def _is_served(layout: Layout, name: str) -> bool:
    """Whether a host sees there what is its owner's, and not the folder below it."""
    if not is_mounted(layout, name, layout.network):
        return False
    words = ["stat", "--format=%u", str(layout.network)]
    return call(inside(layout, name, words), check=False).strip() == str(layout.uid(OWNER))


def _unmount(layout: Layout, name: str) -> None:
    """Also one whose client was killed."""
    while is_mounted(layout, name, layout.network):
        call(inside(layout, name, ["umount", "--lazy", str(layout.network)]))
    stop(layout, client(name))


def _words(layout: Layout) -> list[str]:
    *ssh, place = ssh_words(layout, OWNER)
    options = (
        f"ssh_command={' '.join(ssh)}",
        "allow_other,default_permissions",
        f"dcache_timeout={REMEMBERED},dcache_stat_timeout={REMEMBERED}",
    )
    words = ["sshfs", "-f", f"{place}:{layout.served}", str(layout.network)]
    return [*words, *(word for option in options for word in ("-o", option))]


def client(name: str) -> str:
    """The name of a host's client."""
    return f"fuse-{name}"
