"""store setup: a workspace that a group shares."""

from __future__ import annotations

from pathlib import Path

import click

from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, say
from hpcrun.store.group import set_up
from hpcrun.store.policy import ALL_READ, GROUP_READS, Policy, read_policy

READERS = {"group": GROUP_READS, "everyone": ALL_READ}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-g", "--group", required=True, help="The group that shares it; you are in it.")
@click.option(
    "--readable-by",
    type=click.Choice([*READERS]),
    help="Who reads runs that are not private; default: as it is, at first the group.",
)
@click.option(
    "--private/--no-private",
    default=None,
    help="Whether runs are private where nothing else is asked; default: as it is, at first not.",
)
@json_option
def setup(
    folder: Path, group: str, readable_by: str | None, private: bool | None, as_json: bool
) -> None:
    """Make FOLDER a workspace that a group shares; no administrator is needed.

    Each member sees the others' runs and changes only their own. It can be said again, also to
    change the policy of later runs.
    """
    folder = folder.expanduser().absolute()
    known = read_policy(folder)
    umask = READERS[readable_by] if readable_by else known.umask
    policy = Policy(
        group,
        GROUP_READS if umask is None else umask,
        known.private if private is None else private,
    )
    done = set_up(folder, policy)
    readers = "everyone" if policy.umask == ALL_READ else "group"
    if as_json:
        value = {"workspace": str(folder), "group": group, "readable_by": readers}
        lines = {"changed": list(done.changed), "warnings": list(done.warnings)}
        print_json({**value, "private": policy.private, **lines})
        return
    for line in done.changed or [f"{folder} is set up for group {group} already"]:
        say(line)
    for line in done.warnings:
        say(f"hpcrun: {line}", err=True)
    say(f"next, each member in a project: hpcrun init -w {folder}")
