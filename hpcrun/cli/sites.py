"""sites: the clusters that can be named, and what is known of them."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hpcrun.cli.bootstrap import bootstrap
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table, say
from hpcrun.workflow.settings import open_assets

if TYPE_CHECKING:
    from hpcrun.assets import Known
    from hpcrun.workflow.sites import Fact


@click.group()
def sites() -> None:
    """Show the clusters that can be named, and check a site file: docs/sites.md."""


site = sites
sites.add_command(bootstrap)


@sites.command("list")
@click.option("--all", "with_all", is_flag=True, help="Also those that others inherit.")
@json_option
def list_sites(with_all: bool, as_json: bool) -> None:
    """List all sites: your project's, your own, and those that ship."""
    known = open_assets().known_sites()
    found = [site for site in known if with_all or site.status != "abstract"]
    if as_json:
        print_json([site._asdict() for site in found])
        return
    today = date.today().isoformat()
    rows = [(site.site, site.title, _status(site, today)) for site in found]
    print_table(("site", "title", "status"), rows)


def _status(site: Known, today: str) -> str:
    """What is not usual about a site: that it closes, or was to be closed by now."""
    if site.valid_until is not None and site.valid_until < today:
        return f"was to close on {site.valid_until}"
    return site.status if site.status != "active" else ""


@sites.command()
@click.argument("name", metavar="SITE")
@json_option
def show(name: str, as_json: bool) -> None:
    """Print all that is known of SITE, with the source of each value, or else its file and line.

    Grade A is the site's own documentation, B is kept by its staff, C is of third parties. What
    stands under hints is only shown, and never written into a job.
    """
    from hpcrun.workflow.sites import facts_of

    facts = facts_of(name, open_assets())
    if as_json:
        print_json([_object(fact) for fact in facts])
        return
    rows = [(fact.key, fact.value, _said_by(fact)) for fact in facts]
    print_table(("key", "value", "source"), rows)


def _object(fact: Fact) -> dict[str, str | None]:
    told = {"key": fact.key, "value": fact.value, "origin": fact.origin}
    source = fact.source
    if source is None:
        return {**told, "grade": None, "url": None, "date": None}
    return {**told, "grade": source.grade, "url": source.url, "date": source.date}


def _said_by(fact: Fact) -> str:
    """The source, or else the line of the file that says so."""
    source = fact.source
    return f"{source.grade} {source.url} {source.date}".rstrip() if source else fact.origin


@sites.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> int:
    """Check the site file FILE before it is put in place. Exits with 1 if something is wrong."""
    from hpcrun.cli.doctor import tell
    from hpcrun.workflow.sites import check_file

    return tell(check_file(file, open_assets()), as_json)


@sites.command()
@click.option("--name", help="The site's name; default: the cluster's own.")
@click.option("--print", "only_print", is_flag=True, help="Print the file, and write nothing.")
@json_option
def discover(name: str | None, only_print: bool, as_json: bool) -> None:
    """Write a site file from what the Slurm of this login node tells.

    It goes to ~/.config/hpcrun/site_configs, and a run can be submitted with it at once. What
    could not be learned stands at its end.
    """
    from hpcrun.workflow.discover import discover as discover_site
    from hpcrun.workflow.discover import keep

    assets = open_assets()
    found = discover_site(os.environ, os.uname().nodename, name)
    path = None if only_print else keep(found, assets)
    if as_json:
        file = None if path is None else str(path)
        told = {"site": found.name, "file": file, "targets": found.targets}
        print_json({**told, "unknown": found.unknown, "text": found.text})
    elif path is None:
        say(found.text.rstrip("\n"))
    else:
        say(f"{path} is written, with the targets {', '.join(found.targets)}")
        for text in found.unknown:
            say(f"not learned: {text}")
        say(f"next: hpcrun submit -t {found.targets[0]}" if found.targets else "it has no targets")


@sites.command()
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON Schema of site files, for editors and checkers."""
    from hpcrun.schema import json_schema
    from hpcrun.site import SiteConfig

    print_json(json_schema(SiteConfig))
