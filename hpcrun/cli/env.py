"""env: environments of packages, built, listed, shown and removed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from hpcrun.cli.asking import agreed, tell_nothing_was_deleted
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table, say, size_of, when
from hpcrun.cli.submit import prepare, request_options
from hpcrun.config import parse_time
from hpcrun.environments.cache import Built
from hpcrun.errors import ConfigError, Problem
from hpcrun.moments import iso
from hpcrun.workflow.environments import named, own_environments, provide, rebuild
from hpcrun.workflow.packs import provide_packed
from hpcrun.workflow.pruning import Unneeded, prune, unneeded
from hpcrun.workflow.session import open_session


@click.group()
def env() -> None:
    """Look after environments of packages: docs/environments.md."""


@env.command()
@request_options
@click.option("--rebuild", "anew", is_flag=True, help="Build it anew, with what is newest now.")
@json_option
@click.pass_obj
def build(workspace: str | None, /, anew: bool, as_json: bool, **request: Any) -> None:
    """Build the environment of a run, and submit nothing. One that is there is only told of."""
    session, prepared = prepare(workspace, **request)
    wanted, plan, packing = prepared.environment, prepared.plan, prepared.plan.setting.packing
    if wanted is None and packing is not None and not anew:
        provide_packed(packing, session.store, plan.private)
        if as_json:
            print_json({"packed": packing.file})
        else:
            say(f"{packing.prefix}: {packing.file}")
        return
    if wanted is None:
        message = "the run has no environment of packages"
        raise ConfigError(Problem(message, "environment: {pip: […]} or {requirements: FILE}"))
    if anew:
        built = rebuild(wanted, session.store, plan.private)
    else:
        folder = str(plan.setting.shared_prefix)
        built = provide(wanted, folder, session.store, plan.private)
        if packing is not None:
            provide_packed(packing, session.store, plan.private)
    if as_json:
        print_json(_object(built))
    else:
        say(f"{wanted.name}: {built.folder}, {len(built.lock)} packages")


@env.command("list")
@json_option
@click.pass_obj
def list_environments(workspace: str | None, as_json: bool) -> None:
    """List your environments, newest first."""
    found = own_environments(open_session(given=workspace).store)
    if as_json:
        print_json([_object(built) for built in found])
        return
    rows = [
        (
            Path(built.folder).name,
            str(built.marker["name"]),
            str(built.marker["python"]["version"]),
            str(len(built.lock)),
            when(built.marker["built"]),
        )
        for built in found
    ]
    print_table(("environment", "name", "python", "packages", "built"), rows)


@env.command()
@click.argument("environment")
@json_option
@click.pass_obj
def show(workspace: str | None, environment: str, as_json: bool) -> None:
    """Print what was asked of ENVIRONMENT, and what is installed in it.

    ENVIRONMENT is a name, or a key as `list` prints it, or a unique beginning of one.
    """
    built = named(environment, open_session(given=workspace).store)
    if as_json:
        print_json(_object(built))
        return
    told = _object(built)
    for key in ("name", "folder", "python", "builder", "seconds"):
        say(f"{key}: {told[key]}")
    say(f"built: {when(built.marker['built'])}")
    print_table(("asked",), [(line,) for line in built.requirements])
    print_table(("installed",), [(line,) for line in built.lock])


@env.command("prune")
@click.option(
    "--idle", default="30d", show_default=True, help="How long nothing has wanted it; 2d at least."
)
@click.option("-y", "--yes", is_flag=True, help="Delete without being asked.")
@json_option
@click.pass_obj
def prune_environments(workspace: str | None, idle: str, yes: bool, as_json: bool) -> None:
    """Delete environments that no run needs, and what killed builds left.

    First says what would go. Environments of runs that are not sealed stay, whoever's they are.
    """
    try:
        seconds = parse_time(idle).total_seconds()
    except ValueError as error:
        raise ConfigError(Problem(f"--idle: {error}")) from error
    store = open_session(given=workspace).store
    now = time.time()
    going = unneeded(store, now, seconds)
    files, size = sum(each.files for each in going), sum(each.bytes for each in going)
    if not as_json:
        rows = [(Path(g.folder).name, g.name or "a killed build", size_of(g.bytes)) for g in going]
        if rows:
            print_table(("environment", "name", "size"), rows)
        else:
            say("there is no environment that no run needs")
        question = f"delete {len(going)} environments, {files} files, {size_of(size)}, for good?"
        yes = bool(going) and agreed(yes, question)
    gone = prune(going, store, now, seconds) if yes else []
    if as_json:
        print_json({"deleted": yes, "environments": [*map(_gone, gone if yes else going)]})
    elif yes:
        say(f"deleted {len(gone)} environments, {size_of(sum(each.bytes for each in gone))}")
    elif going:
        tell_nothing_was_deleted()


def _gone(each: Unneeded) -> dict[str, Any]:
    return each._asdict()


def _object(built: Built) -> dict[str, Any]:
    marker = built.marker
    return {
        "folder": built.folder,
        "key": built.key,
        "number": built.number,
        "name": marker["name"],
        "python": marker["python"]["version"],
        "requirements": built.requirements,
        "lock": built.lock,
        "builder": marker["builder"],
        "built": iso(marker["built"]),
        "seconds": marker["seconds"],
    }
