"""The site and target that a run names, read from site files."""

from __future__ import annotations

from hpcrun.assets import Assets
from hpcrun.errors import ConfigError, Problem, SiteError
from hpcrun.plan import split_target
from hpcrun.reading import read_text
from hpcrun.site import SiteConfig


def load_site(name: str, assets: Assets) -> SiteConfig:
    """The site of that name. SiteError with all problems of its file at once."""
    text, file = assets.site(name)
    site = read_text(SiteConfig, text, file, error=SiteError).value
    if site.schema_version != 1:
        raise SiteError(Problem(f"schema_version is {site.schema_version}", "it must be 1", file))
    if site.id != name:
        raise SiteError(Problem(f"id is {site.id!r}", f"the file's name says {name!r}", file))
    return site


def choose_target(name: str | None, assets: Assets) -> tuple[SiteConfig, str]:
    """The site, and the name of one of its targets. ConfigError names the nearest ones."""
    site_name, target = split_target(name)
    site = load_site(site_name, assets)
    target = target or site.default_target
    if target is None:
        known = ", ".join(f"{site.id}/{known}" for known in site.targets)
        raise ConfigError(Problem(f"site {site.id} has no default target", f"choose of {known}"))
    if target not in site.targets:
        known = ", ".join(f"{site.id}/{known}" for known in site.targets)
        raise ConfigError(Problem(f"site {site.id} has no target {target!r}", f"it has {known}"))
    return site, target
