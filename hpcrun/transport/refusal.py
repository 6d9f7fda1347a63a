"""Why a login failed, from what `ssh` said of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hpcrun.errors import TransportError
from hpcrun.transport.ssh import NONE_THERE, Login

CONNECTION = 255
"""The exit code of `ssh` itself; any other is the command's."""


def refusal(login: Login, code: int | None, said: str) -> TransportError:
    """What to tell when no hpcrun answers. code: of ssh. said: its standard error."""
    name, host = login.name, login.endpoint.host
    if NONE_THERE in said:
        return TransportError(
            f"there is no hpcrun on {name}",
            f"`hpcrun site bootstrap {name}` brings it; or ssh.command of its site file names it",
        )
    for pattern, message, hint in _WORDS:
        found = re.search(pattern, said, re.IGNORECASE)
        if found:
            told = found.groupdict().get("detail") or ""
            given = {"name": name, "host": host, "credential": _credential(login)}
            given |= {"detail": told.strip()}
            may_pass = pattern in _PASSING
            return TransportError(message.format(**given), hint.format(**given), may_pass)
    last = _last(said)
    if code == CONNECTION or code is None:
        return TransportError(f"no connection to {name}{last}", f"does `ssh {host}` work?", True)
    return TransportError(
        f"hpcrun did not begin on {name}: exit code {code}{last}",
        f"try it there: `ssh {host} hpcrun --version`",
    )


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""


def _credential(login: Login) -> str:
    """What the user does to be let in; hpcrun neither does it nor keeps what comes of it."""
    access = login.access
    command = access.credential_command
    if command is None:
        return f"does `ssh {login.endpoint.host}` let you in?"
    lives = f", good for {access.credential_lifetime}" if access.credential_lifetime else ""
    return f"`{command}` gets a new credential{lives}"


_CHANGED = (
    r"REMOTE HOST IDENTIFICATION HAS CHANGED",
    "the host key of {host} is another than the one you know: that may be an attack",
    "ask the site whether it has changed; only then `ssh-keygen -R {host}`",
)
_REVOKED = (
    r"REVOKED HOST KEY|host key .* revoked",
    "the host key of {host} is revoked",
    "ask the site for its new one",
)
_UNKNOWN = (
    r"No \S+ host key is known for|Host key verification failed",
    "the host key of {host} is not known here",
    "`ssh {host}` once, and compare its fingerprint with the one that the site publishes",
)
_DENIED = (
    r"Permission denied(?: \((?P<detail>[^)]*)\))?",
    "{name} did not let you in ({detail}); it was tried once",
    "{credential}",
)
_MANY = (
    r"Too many authentication failures",
    "{name} did not let you in: too many keys were tried",
    "IdentitiesOnly and IdentityFile of ~/.ssh/config name the right one",
)
_NAMELESS = (
    r"Could not resolve hostname \S+?: (?P<detail>.*)",
    "there is no host {host}: {detail}",
    "the name of the site, or a Host of ~/.ssh/config; and is there a network?",
)
_REFUSED = (
    r"connect to \S+ \S+ port (?P<detail>\d+): Connection refused",
    "{host} refuses connections at port {detail}",
    "the login node may be down, or another port meant (ssh.endpoints of the site file)",
)
_SILENT = (
    r"connect to \S+ .*(?P<detail>timed out|No route to host|Network is unreachable)",
    "{host} does not answer: {detail}",
    "is there a network, or a VPN needed?",
)
_CLOSED = (
    r"kex_exchange_identification|Connection (?:closed|reset) by (?:remote host|\S+ port)",
    "{host} closed the connection before a login",
    "it may be busy, or take no more connections from here for a while: wait before the next one",
)
_SHARED = (
    r"Session open refused by peer|mux_client_request_session",
    "{name} does not take a second session on one connection",
    "ssh.multiplex: refused, in its site file",
)
_WORDS: Sequence[tuple[str, str, str]] = (
    _CHANGED,
    _REVOKED,
    _UNKNOWN,
    _MANY,
    _DENIED,
    _NAMELESS,
    _REFUSED,
    _SILENT,
    _SHARED,
    _CLOSED,
)
_PASSING = {words[0] for words in (_NAMELESS, _REFUSED, _SILENT, _CLOSED)}
"""Those that another attempt, later, may not meet."""
