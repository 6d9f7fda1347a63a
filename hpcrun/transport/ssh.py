"""The words that log in: OpenSSH's own `ssh`, so that the user's configuration holds. Pure.

What a site forbids is said in so many words: options on the command line come before what a
configuration says.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcrun.config import parse_time
from hpcrun.site.access import Access, Endpoint
from hpcrun.transport.wire import PROTOCOL

PERSIST = 600
"""Seconds for which a shared connection stays after its last use, at most."""

LONGEST_PATH = 107 if sys.platform == "linux" else 103
"""Bytes of a socket's path that the system takes. OpenSSH makes it with 17 more, and renames it."""

_OPTIONS = {
    "StrictHostKeyChecking": "yes",
    "NumberOfPasswordPrompts": "1",
    "ConnectionAttempts": "1",
    "ConnectTimeout": "30",
    "ServerAliveInterval": "3",
    "ServerAliveCountMax": "2",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
}
"""One attempt, at the host that is known; a link that is cut is noticed after 9 seconds, when the
third question in a row would go out."""

_UNSAID = re.compile(rb'["\\\n]|\$\{')
"""What no ssh, old or new, takes as a part of a path."""

ALONE = {"ControlMaster": "no", "ControlPath": "none"}
"""No connection is shared, whatever the user's configuration says."""


@dataclass(frozen=True)
class Login:
    """A login node and the manners there. name: what the user calls it."""

    name: str
    endpoint: Endpoint
    access: Access = field(default_factory=Access)

    @property
    def asks(self) -> bool:
        """Whether a login asks the user for something that is good for one login only."""
        return self.access.auth in ("publickey_otp", "password_otp")


@dataclass(frozen=True)
class Sharing:
    """Where sockets of shared connections may lie, and what tells this command from others.

    configured: the user's configuration shares connections to that host by itself.
    """

    folder: Path
    command: str
    configured: bool = False


def control(access: Access, sharing: Sharing | None) -> Mapping[str, str]:
    """How a connection is shared, strictly by the site's policy. sharing: None: in no way."""
    policy = access.multiplex
    if sharing is None or policy not in ("recommended", "allowed"):
        return ALONE
    if sharing.configured:
        return {}
    if policy == "allowed":  # with what belongs to this command, and as long as it lasts
        name, length, persist = sharing.command, len(sharing.command), "no"
    else:
        name, length, persist = "%C", 40, str(_persist(access))
    folder = os.fsencode(sharing.folder)
    if len(folder) + len("/") + length + 17 > LONGEST_PATH or _UNSAID.search(folder):
        return ALONE
    path = f'"{str(sharing.folder).replace("%", "%%")}/{name}"'  # as in a file, where spaces part
    return {"ControlMaster": "auto", "ControlPath": path, "ControlPersist": persist}


def _persist(access: Access) -> int:
    """Seconds: never longer than what let the user in is good for."""
    lifetime = lifetime_of(access)
    return PERSIST if lifetime is None else min(PERSIST, int(lifetime))


def lifetime_of(access: Access) -> float | None:
    """Seconds for which a credential is good; None if the site does not tell."""
    if access.credential_lifetime is None:
        return None
    try:
        return parse_time(access.credential_lifetime).total_seconds()
    except ValueError:
        return None


def ssh_words(
    login: Login, sharing: Sharing | None = None, batch: bool = False, terminal: bool = False
) -> list[str]:
    """`ssh` and its options; the host and a command may follow, and so rsync may use them.

    batch: nobody is there who could be asked for anything. terminal: the command has one there.
    """
    options = dict(_OPTIONS)
    if terminal:
        options["RequestTTY"] = "force"
    # Of what a server says while it asks, ssh tells at this level and not below; banners too.
    options["LogLevel"] = "INFO" if login.asks else "ERROR"
    if batch:
        options["BatchMode"] = "yes"
    options |= control(login.access, sharing)
    words = ["ssh"] if terminal else ["ssh", "-T"]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return [*words, *address_words(login.endpoint)]


def address_words(endpoint: Endpoint) -> Sequence[str]:
    """What is said of the way to a host besides its name."""
    words = []
    if endpoint.port is not None:
        words += ["-p", str(endpoint.port)]
    if endpoint.proxy_jump is not None:
        words += ["-J", endpoint.proxy_jump]
    return words


NONE_THERE = "hpcrun-none-there"

_FIND = (
    'for f in "$HOME/.local/share/hpcrun/current/bin/hpcrun" "$(command -v hpcrun-slurm)"'
    ' "$(command -v hpcrun)"; do test -x "$f" && exec "$f" SERVE; done;'
    f" echo {NONE_THERE} >&2; exit 127"
)


def far_command(access: Access, words: Sequence[str] = ()) -> str:
    """The line that starts hpcrun there, for any login shell: csh too takes what is quoted so.

    words: the one command that it is to run, at the terminal that it has; none: what it is told.
    """
    asked = json.dumps([PROTOCOL, [*words]]).encode().hex()
    serve = f"serve {asked}" if words else "serve"
    if access.command is not None:
        return f"{access.command} {serve}"
    return f"exec sh -c '{_FIND.replace('SERVE', serve)}'"
