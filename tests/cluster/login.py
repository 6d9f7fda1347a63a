"""The sshds: the login node's, one of it that asks for one-time codes, and the jump host's.

The last two are there from the first use of the laptop.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.cluster.hosts import inside
from tests.cluster.layout import JUMP, LOGIN, PATH, USERS, Host, Layout
from tests.cluster.processes import call, inside_space, kill_all, start, stop, wait_for

CODES = 2222
"""The port of the login node where a key alone does not do."""

_CONF = """\
Port {port}
HostKey {key}
PidFile none
AuthorizedKeysFile .ssh/authorized_keys
TrustedUserCAKeys {ssh}/user_ca.pub
AllowUsers {users}
PasswordAuthentication no
{authentication}
UseDNS no
PrintMotd no
MaxStartups 100
MaxSessions 100
ClientAliveInterval 20
SetEnv PATH={path}
Subsystem sftp internal-sftp
Match User carol,dora
    Banner {etc}/banner
"""
_BY_KEY = "KbdInteractiveAuthentication no\nUsePAM no"
_BY_KEY_AND_CODE = (
    "KbdInteractiveAuthentication yes\nUsePAM yes\n"
    "AuthenticationMethods publickey,keyboard-interactive:pam"
)
_PAM = """\
auth required pam_oath.so usersfile={codes} window=20 digits=6
account required pam_permit.so
session required pam_permit.so
"""


def start_login(layout: Layout) -> None:
    """Makes the keys, starts the login node's sshd and waits until it listens."""
    for name in ("host_key", "jump_key", "user_ca"):
        _make_key(layout.ssh / name)
    write_known_hosts(layout)
    (layout.etc / "banner").write_text("Authorised users only.\nAll is recorded: {}[]\\ \"'\n")
    start_sshd(layout)


def start_sshd(layout: Layout) -> None:
    """The login node's own."""
    _start(layout, "sshd", LOGIN, "host_key", 22, _BY_KEY)


def start_codes(layout: Layout) -> None:
    """The one that asks for one-time codes of dora's, by PAM: /etc of the hosts is their own."""
    codes = layout.state / "codes"
    codes.touch(mode=0o600)
    codes.write_text(f"HOTP dora - {os.urandom(20).hex()}\n")
    (layout.etc / "pam.d").mkdir(exist_ok=True)
    (layout.etc / "pam.d/sshd").write_text(_PAM.format(codes=codes))
    _start(layout, "sshd-codes", LOGIN, "host_key", CODES, _BY_KEY_AND_CODE)


def start_jump(layout: Layout) -> None:
    """The jump host's."""
    _start(layout, "sshd-jump", JUMP, "jump_key", 22, _BY_KEY)


def restart(layout: Layout) -> None:
    """The login node's sshd is killed with all its sessions, as by a reboot, and starts again."""
    stop(layout, "sshd")
    # The port is theirs until they are gone.
    kill_all([number for number in inside_space(layout, f"host-{LOGIN.name}") if _is_sshd(number)])
    if layout.pid_file("sshd-codes").exists():
        start_codes(layout)
    start_sshd(layout)


def _is_sshd(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/comm").read_text() == "sshd\n"
    except OSError:
        return False


def change_host_key(layout: Layout) -> None:
    """The login node gets another host key, which known_hosts does not know."""
    key = layout.ssh / "host_key"
    for file in (key, key.with_suffix(".pub")):
        file.unlink()
    _make_key(key)
    restart(layout)


def write_known_hosts(layout: Layout) -> None:
    """The host keys as they are."""
    login, jump = (_public(layout.ssh / name) for name in ("host_key", "jump_key"))
    address, inner = layout.address(LOGIN), layout.inner(LOGIN)
    lines = (
        f"{LOGIN.name},{address},{inner},[{address}]:{CODES} {login}",
        f"{JUMP.name},{layout.address(JUMP)} {jump}",
    )
    (layout.ssh / "known_hosts").write_text("\n".join(lines) + "\n")


def _start(layout: Layout, name: str, host: Host, key: str, port: int, authentication: str) -> None:
    conf = layout.etc / f"{name}_config"
    text = _CONF.format(
        port=port,
        key=layout.ssh / key,
        ssh=layout.ssh,
        etc=layout.etc,
        users=" ".join(USERS),
        authentication=authentication,
        path=PATH,
    )
    conf.write_text(text)
    layout.output(name).unlink(missing_ok=True)
    # sshd insists on its own full path.
    words = ["/usr/sbin/sshd", "-D", "-e", "-f", str(conf)]
    start(layout, name, inside(layout, host.name, words))
    wait_for(layout, name, lambda: "listening" in layout.output(name).read_text())


def _make_key(file: Path) -> None:
    call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", file.name, "-f", str(file)])


def _public(key: Path) -> str:
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])


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
