"""Examining this machine, the workspace and a target: docs/sites.md says what is looked at."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import hpcrun
from hpcrun.assets import Assets
from hpcrun.errors import HpcrunError, SiteError
from hpcrun.workflow.doctor.command import command
from hpcrun.workflow.doctor.containers import containers
from hpcrun.workflow.doctor.jobs import modules, remarks
from hpcrun.workflow.doctor.slurm import slurm
from hpcrun.workflow.doctor.storage import folders, workspace
from hpcrun.workflow.doctor.target import of_target
from hpcrun.workflow.finding import Finding
from hpcrun.workflow.session import Session
from hpcrun.workflow.site import choose_target, load_site
from hpcrun.workflow.whereabouts import is_of


def examine(session: Session, target: str | None) -> Iterator[Finding]:
    """All findings, as they are made. Nothing is submitted, and nothing is left behind."""
    yield Finding("ok", "hpcrun", f"{hpcrun.__version__} on Python {sys.version.split()[0]}")
    yield from command()
    yield from workspace(session)
    if target is None:
        yield from all_sites(session.assets)
        yield from slurm(session, None)
        return
    try:
        site, name = choose_target(target, session.assets)
    except HpcrunError as error:
        cure = "mend the site file" if isinstance(error, SiteError) else ""
        yield Finding("error", f"site {target}", str(error), cure)
        return
    targets = ", ".join(f"{site.id}/{known}" for known in site.targets)
    yield Finding("ok", f"site {site.id}", f"targets {targets}")
    if is_of(site, os.uname().nodename, os.environ) is False:
        message = f"this host is none of {site.id}'s: it has another name, or other variables"
        yield Finding("warning", f"site {site.id}", message, "log in to a login node of the site")
    yield from remarks(site)
    yield from folders(session, site, os.environ)
    yield from modules(site, os.environ)
    yield from containers(site, os.environ)
    if site.scheduler.kind == "slurm":
        asked = yield from slurm(session, target)
        if asked is not None:
            yield from of_target(session, site, name, asked)


def all_sites(assets: Assets) -> Iterator[Finding]:
    """Those that cannot be read, and how many can be named."""
    sound = 0
    for name in assets.sites():
        try:
            sound += load_site(name, assets).status != "abstract"
        except HpcrunError as error:
            yield Finding("error", f"site {name}", str(error), "mend the site file")
    yield Finding("ok", "sites", f"{sound} can be named: hpcrun sites list")
