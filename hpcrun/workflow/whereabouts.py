"""Which site this host belongs to, and where that wants its history of runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from hpcrun.assets import Assets
from hpcrun.errors import HpcrunError
from hpcrun.site import SiteConfig
from hpcrun.workflow.places import expanded

_TELLS = re.compile(r"\bdetect:|\bhost: *[\"']?([^\s,}\"']+)")
"""What in a site file may tell of this host: a rule, or the name of a login host."""


def is_of(site: SiteConfig, host: str, environ: Mapping[str, str]) -> bool | None:
    """Whether a host is one of a site's; None: the site does not tell. host: its full name."""
    detect = site.detect
    if detect.hostname is not None or detect.env:
        named = detect.hostname is None or fnmatchcase(host, detect.hostname)
        return named and all(environ.get(name) == text for name, text in detect.env.items())
    logins = [endpoint.host for endpoint in site.ssh.endpoints.values()]
    # A cluster's own hosts are named below its login host; a name that is no such tells nothing.
    return True if any(_is_below(host, login) for login in logins) else None


def site_here(assets: Assets, host: str, environ: Mapping[str, str]) -> SiteConfig | None:
    """The first site that this host is one of."""
    from hpcrun.workflow.site import load_site  # brings YAML, for which few files give cause

    for known in assets.known_sites():
        try:
            text = Path(known.file).read_text(encoding="utf-8") if known.file else ""
            tells = list(_TELLS.finditer(text))
            if any(match[1] is None or _is_below(host, match[1]) for match in tells):
                site = load_site(known.site, assets)
                if site.status != "abstract" and is_of(site, host, environ):
                    return site
        except (OSError, UnicodeDecodeError, HpcrunError):
            continue  # `sites check` and `doctor` tell what is wrong with it
    return None


def history_here(assets: Assets, host: str, environ: Mapping[str, str]) -> tuple[Path, str] | None:
    """(the workspace, whose word that is) that the site of this host wants, if it tells one."""
    site = site_here(assets, host, environ)
    if site is None or site.storage.run_history_root is None:
        return None
    folder = expanded(site.storage.run_history_root, environ)
    return (
        (Path(folder), f"site {site.id}") if folder.startswith("/") and "$" not in folder else None
    )


def _is_below(host: str, login: str) -> bool:
    return host == login or host.endswith(f".{login}")
