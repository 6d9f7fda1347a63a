"""The login node's sshd, with key login only."""

from __future__ import annotations

from tests.cluster.hosts import inside
from tests.cluster.layout import LOGIN, PATH, USERS, Layout
from tests.cluster.processes import call, start, wait_for

_CONF = """\
ListenAddress {address}
HostKey {ssh}/host_key
PidFile none
AuthorizedKeysFile .ssh/authorized_keys
AllowUsers {users}
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
MaxStartups 100
MaxSessions 100
ClientAliveInterval 20
SetEnv PATH={path}
Subsystem sftp internal-sftp
"""


def start_login(layout: Layout) -> None:
    """Starts sshd and waits until it listens."""
    key = layout.ssh / "host_key"
    call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", LOGIN.name, "-f", str(key)])
    kind, public = key.with_suffix(".pub").read_text().split()[:2]
    address = layout.address(LOGIN)
    (layout.ssh / "known_hosts").write_text(f"{LOGIN.name},{address} {kind} {public}\n")
    conf = layout.etc / "sshd_config"
    users = " ".join(USERS)
    conf.write_text(_CONF.format(address=address, ssh=layout.ssh, path=PATH, users=users))
    # sshd insists on its own full path.
    words = ["/usr/sbin/sshd", "-D", "-e", "-f", str(conf)]
    start(layout, "sshd", inside(layout, LOGIN.name, words))
    wait_for(layout, "sshd", lambda: "listening" in layout.output("sshd").read_text(), 20)


def ssh_words(layout: Layout, user: str) -> list[str]:
    """The words that log in as a user, through the real sshd; a command may follow them."""
    options = {
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(layout.ssh / "known_hosts"),
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "10",
        "ServerAliveInterval": "5",
        "LogLevel": "ERROR",
    }
    words = ["ssh", "-F", "none", "-i", str(layout.key(user))]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return [*words, f"{user}@{layout.address(LOGIN)}"]
