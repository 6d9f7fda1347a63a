"""What is wrong with how a site is reached."""

from __future__ import annotations

from collections.abc import Iterator

from hpcrun.reading import Finding
from hpcrun.site import SiteConfig
from hpcrun.workflow.unsound.values import times

_LARGEST = 65535


def access(site: SiteConfig) -> Iterator[Finding]:
    """Its login hosts, each of which is another one, and its credentials."""
    first: dict[tuple[str, int], str] = {}
    for name, endpoint in site.ssh.endpoints.items():
        key = f"ssh.endpoints.{name}"
        for part, host in (("host", endpoint.host), ("proxy_jump", endpoint.proxy_jump)):
            if host is not None and (host.startswith("-") or len(host.split()) != 1):
                yield Finding(f"{key}.{part}", f"{host!r} is no host", "login.example.org")
        if endpoint.port is not None and not 0 < endpoint.port <= _LARGEST:
            yield Finding(f"{key}.port", f"{endpoint.port} is no port", f"1 to {_LARGEST}")
        other = first.setdefault((endpoint.host.lower(), endpoint.port or 22), name)
        if other != name:
            yield Finding(key, f"{name} is {other} once more: {endpoint.host}", "leave one of them")
    yield from times({"ssh.credential_lifetime": site.ssh.credential_lifetime})
