"""sites: the clusters that can be named, and what is known of them."""

from __future__ import annotations

from pathlib import Path

import click

from hpcrun.cli.doctor import print_finding
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table
from hpcrun.site import Source
from hpcrun.workflow.session import open_session
from hpcrun.workflow.sites import Fact, check_file, facts_of, known_sites


@click.group()
def sites() -> None:
    """Show the clusters that can be named, and check a site file: docs/sites.md."""


@sites.command("list")
@click.option("--all", "with_all", is_flag=True, help="Also those that others inherit.")
@json_option
@click.pass_obj
def list_sites(workspace: str | None, with_all: bool, as_json: bool) -> None:
    """List all sites: your project's, your own, and those that ship."""
    found = known_sites(open_session(given=workspace).assets)
    found = [site for site in found if with_all or site.status != "abstract"]
    if as_json:
        print_json([site._asdict() for site in found])
        return
    rows = [
        (site.site, site.title, site.status if site.status != "active" else "") for site in found
    ]
    print_table(("site", "title", "status"), rows)


@sites.command()
@click.argument("name", metavar="SITE")
@json_option
@click.pass_obj
def show(workspace: str | None, name: str, as_json: bool) -> None:
    """Print all that is known of SITE, with the source of each value.

    Grade A is the site's own documentation, B is kept by its staff, C is of third parties. What
    stands under hints is only shown, and never written into a job.
    """
    facts = facts_of(name, open_session(given=workspace).assets)
    if as_json:
        print_json([_object(fact) for fact in facts])
        return
    rows = [(fact.key, fact.value, _said_by(fact.source)) for fact in facts]
    print_table(("key", "value", "source"), rows)


def _object(fact: Fact) -> dict[str, str | None]:
    told = {"key": fact.key, "value": fact.value, "origin": fact.origin}
    source = fact.source
    if source is None:
        return {**told, "grade": None, "url": None, "date": None}
    return {**told, "grade": source.grade, "url": source.url, "date": source.date}


def _said_by(source: Source | None) -> str:
    return f"{source.grade} {source.url} {source.date}".rstrip() if source else ""


@sites.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@click.pass_obj
def check(workspace: str | None, file: Path, as_json: bool) -> int:
    """Check the site file FILE before it is put in place. Exits with 1 if something is wrong."""
    findings = check_file(file, open_session(given=workspace).assets)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print_finding(finding)
    return 1 if any(finding.grade == "error" for finding in findings) else 0


@sites.command()
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON Schema of site files, for editors and checkers."""
    from hpcrun.schema import json_schema
    from hpcrun.site import SiteConfig

    print_json(json_schema(SiteConfig))
