"""How a site is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Endpoint:
    """A login host."""

    host: str
    """Its name."""
    port: int | None = None
    """Its port, where that is not 22."""
    proxy_jump: str | None = None
    """The host that it is reached through."""
    arch: str | None = None
    """What `uname -m` says there."""


@dataclass(frozen=True)
class Access:
    """How a site is reached from elsewhere."""

    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    """Its login hosts by name, the usual one first."""
    auth: (
        Literal["publickey", "publickey_otp", "password_otp", "certificate", "kerberos"] | None
    ) = None
    """What a login needs."""
    credential_command: str | None = None
    """What you run to get a credential; hpcrun neither runs it nor keeps a second factor."""
    credential_lifetime: str | None = None
    """How long a credential is good for, such as 12h."""
    multiplex: Literal["recommended", "allowed", "refused", "forbidden_by_policy"] | None = None
    """Whether several sessions may share a connection; absent: they do not."""
    connect_gap_seconds: float = 1.0
    """Seconds between two logins of yours, at least: many in a row look like an attack."""
    command: str | None = None
    """What starts hpcrun there, for a shell; absent: it is looked for in its usual places."""
    python: str | None = None
    """The Python that hpcrun is installed with there, 3.11 or newer; absent: it is looked for."""
    port_forwarding: bool | None = None
    """Whether tunnels are allowed."""
    agent_policy_url: str | None = None
    """The site's rules for programs that log in."""
