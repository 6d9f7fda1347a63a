"""store setup: a workspace that a group shares."""

from __future__ import annotations

from pathlib import Path

import click

from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, say
from hpcrun.store.group import set_up
from hpcrun.store.policy import ALL_READ, GROUP_READS, Policy


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-g", "--group", required=True, help="The group that shares it; you are in it.")
@click.option(
    "--readable-by",
    type=click.Choice(["group", "everyone"]),
    default="group",
    show_default=True,
    help="Who reads runs that are not private.",
)
@click.option("--private", is_flag=True, help="Runs are private where nothing else is asked.")
@json_option
def setup(folder: Path, group: str, readable_by: str, private: bool, as_json: bool) -> None:
    """Make FOLDER a workspace that a group shares; no administrator is needed.

    Each member sees the others' runs and changes only their own. It can be said again, also to
    change the policy of later runs.
    """
    folder = folder.expanduser().absolute()
    policy = Policy(group, GROUP_READS if readable_by == "group" else ALL_READ, private)
    done = set_up(folder, policy)
    if as_json:
        value = {"workspace": str(folder), "group": group, "readable_by": readable_by}
        lines = {"changed": list(done.changed), "warnings": list(done.warnings)}
        print_json({**value, "private": private, **lines})
        return
    for line in done.changed or [f"{folder} is set up for group {group} already"]:
        say(line)
    for line in done.warnings:
        say(f"hpcrun: {line}", err=True)
    say(f"next, each member in a project: hpcrun init -w {folder}")
