"""Why a login failed, from what `ssh` said of it. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from hpcrun.errors import TransportError
from hpcrun.transport.ssh import NONE_THERE, Login, address_words
from hpcrun.transport.wire import MARK

CONNECTION = 255
"""The exit code of `ssh` itself; any other is the command's."""


def refusal(
    login: Login, code: int | None, said: str, address: str | None = None
) -> TransportError:
    """What to tell when no hpcrun answers.

    code: of ssh. said: its standard error. address: what the user's configuration calls the host;
    another that ssh names is on the way there.
    """
    name, host = login.name, login.endpoint.host
    if NONE_THERE in said:
        return TransportError(
            f"there is no hpcrun on {name}",
            f"`hpcrun site bootstrap {name}` brings it; or ssh.command of its site file names it",
        )
    if MARK.decode() in said:
        return astray(name)
    for pattern, message, hint in _WORDS:
        found = re.search(pattern, said, re.IGNORECASE)
        if found:
            groups = {key: (text or "").strip() for key, text in found.groupdict().items()}
            at = _plain(groups.get("at", ""))
            is_meant = at in ("", host, address) or address is None
            given = {"name": name, "host": host, "credential": _credential(login)}
            given |= {
                "detail": groups.get("detail", ""),
                "key": shlex.quote(groups.get("at") or host),
            }
            given |= {"at": host if is_meant else f"{at} (on the way to {host})"}
            given |= {"once": "; it was tried once" if is_meant else ""}
            given |= {"who": name if is_meant else f"{at} (on the way to {name})"}
            given |= {"ssh": shlex.join(["ssh", *address_words(login.endpoint), host])}
            may_pass = pattern in _PASSING
            return TransportError(message.format(**given), hint.format(**given), may_pass)
    last = _last(said)
    if code == CONNECTION or code is None:
        return TransportError(f"no connection to {name}{last}", f"does `ssh {host}` work?", True)
    return TransportError(
        f"hpcrun did not begin on {name}: exit code {code}{last}",
        f"try it there: `ssh {host} hpcrun --version`; does a profile there end the shell?",
    )


def astray(name: str) -> TransportError:
    """What it means that an answer comes on standard error."""
    return TransportError(
        f"what commands on {name} print comes on standard error: a profile there redirects it",
        "`exec 1>&2` and the like are for shells at a terminal only: `[ -t 1 ] && exec …`",
    )


def _plain(at: str) -> str:
    """A host without user, brackets and port."""
    at = at.rpartition("@")[2].strip("'\"")
    return re.sub(r"^\[(.*)\]:\d+$", r"\1", at)


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
    r"REMOTE HOST IDENTIFICATION HAS CHANGED(?:(?s:.*?)Host key for (?P<at>\S+) has changed)?",
    "the host key of {at} is another than the one you know: that may be an attack",
    "ask the site whether it has changed; only then `ssh-keygen -R {key}`",
)
_REVOKED = (
    r"REVOKED HOST KEY|host key .* revoked",
    "the host key of {host} is revoked",
    "ask the site for its new one",
)
_UNKNOWN = (
    r"No \S+ host key is known for (?P<at>\S+)",
    "the host key of {at} is not known here",
    "`{ssh}` once, and compare its fingerprint with the one that the site publishes",
)
_UNKNOWN_JUMP = (  # ssh logs in there as the user's configuration says, and says less
    r"Host key verification failed",
    "the host key of a jump host on the way to {host} is not known here",
    "`{ssh}` once, and compare its fingerprint with the one that the site publishes",
)
_DENIED = (
    r"(?:(?P<at>\S+): )?Permission denied(?: \((?P<detail>[^)]*)\)|, please)",
    "{who} did not let you in ({detail}){once}",
    "{credential}",
)
_MANY = (
    r"Too many authentication failures",
    "{name} did not let you in: too many keys were tried",
    "IdentitiesOnly and IdentityFile of ~/.ssh/config name the right one",
)
_NAMELESS = (
    r"Could not resolve hostname (?P<at>\S+?): (?P<detail>.*)",
    "there is no host {at}: {detail}",
    "the name of the site, or a Host of ~/.ssh/config; and is there a network?",
)
_REFUSED = (
    r"connect to host (?P<at>\S+) port (?P<detail>\d+): Connection refused",
    "{at} refuses connections at port {detail}",
    "the login node may be down, or another port meant (ssh.endpoints of the site file)",
)
_SILENT = (
    r"connect to host (?P<at>\S+) .*(?P<detail>timed out|No route to host|Network is unreachable)",
    "{at} does not answer ({detail})",
    "is there a network, or a VPN needed?",
)
_BEHIND = (
    r"open failed: (?P<detail>.*)|stdio forwarding failed",
    "the jump host does not get through to {host}: {detail}",
    "is it the right one (ssh.endpoints of the site file, or ProxyJump of ~/.ssh/config)?",
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
    _UNKNOWN_JUMP,
    _MANY,
    _DENIED,
    _NAMELESS,
    _REFUSED,
    _SILENT,
    _SHARED,
    _BEHIND,
    _CLOSED,
)
_PASSING = {words[0] for words in (_NAMELESS, _REFUSED, _SILENT, _BEHIND, _CLOSED)}
"""Those that another attempt, later, may not meet."""
