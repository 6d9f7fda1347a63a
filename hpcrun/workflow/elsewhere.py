"""A workspace on another machine: `SITE:FOLDER`, as scp writes it, and how to get there."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass

from hpcrun.assets import Assets
from hpcrun.site.access import Access, Endpoint
from hpcrun.transport.ssh import Login

_NAMED = re.compile(r"(?P<site>[A-Za-z0-9_][A-Za-z0-9_.@-]*):(?P<folder>.*)", re.DOTALL)


@dataclass(frozen=True)
class Elsewhere:
    """A run history behind a login. folder: as it is named there; empty: the usual one there."""

    login: Login
    folder: str

    @property
    def named(self) -> str:
        """As the user names it."""
        return f"{self.login.name}:{self.folder}"


def site_and_folder(named: str) -> tuple[str, str] | None:
    """The parts of `SITE:FOLDER`; None: it names a folder of this machine."""
    found = _NAMED.fullmatch(named)
    return (found["site"], found["folder"]) if found else None


def elsewhere(named: str, assets: Assets) -> Elsewhere | None:
    """Where a workspace lies that is named so; None: on this machine. SiteError."""
    parts = site_and_folder(named)
    return None if parts is None else Elsewhere(login_of(parts[0], assets), parts[1])


def login_of(name: str, assets: Assets, endpoint: str | None = None) -> Login:
    """The login of a site, or of a Host of the user's ssh configuration, which shares nothing.

    endpoint: which of the site's login hosts; default: its first. SiteError.
    """
    if name not in assets.sites():
        return Login(name, Endpoint(name))
    from hpcrun.workflow.site import load_site

    access: Access = load_site(name, assets).ssh
    hosts = access.endpoints
    chosen = hosts.get(endpoint or "", next(iter(hosts.values()), Endpoint(name)))
    return Login(name, chosen, access)


def reached_from(target: str, assets: Assets) -> Elsewhere | None:
    """The run history of a target's site, for a machine without Slurm; None: it has Slurm, or the
    site's file names no login host. ConfigError, SiteError."""
    return None if shutil.which("sbatch") is not None else of_target(target, assets)


def of_target(target: str, assets: Assets) -> Elsewhere | None:
    """The usual run history of the site of a target, by the login host that is meant for it; None
    if its file names no login host. ConfigError, SiteError."""
    from hpcrun.workflow.site import choose_target

    site, name = choose_target(target, assets)
    if not site.ssh.endpoints:
        return None
    return Elsewhere(login_of(site.id, assets, site.targets[name].endpoint), "")
