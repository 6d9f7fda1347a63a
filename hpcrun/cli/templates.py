"""templates: what scripts are made of, whose it is, and whether it is sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from hpcrun.assets import Assets, Found, Templates
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table, say
from hpcrun.errors import ConfigError, HpcrunError, Problem, TemplateError
from hpcrun.names import split_target
from hpcrun.workflow.settings import open_assets
from hpcrun.workflow.site import choose_target, load_site, templates_of
from hpcrun.workflow.templates import Checked, blocks_of, check, find, listing


@click.group()
def templates() -> None:
    """Look at the templates that scripts are made of, override them, and check them."""


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Whose templates count."""
    for option in (
        click.option("--templates", "given", metavar="FOLDER", help="As for `hpcrun submit`."),
        click.option(
            "-t", "--target", metavar="SITE", help="Also those of a site.  [default: local]"
        ),
    ):
        command = option(command)
    return command


@templates.command("list")
@place_options
@json_option
def list_templates(given: str | None, target: str | None, as_json: bool) -> None:
    """List all templates: whose counts, and whom it replaces."""
    found = _templates(open_assets(templates=given), target)
    chains = {name: found.chain(name) for name in found.names}
    if as_json:
        print_json([{"name": name, "chain": _told(chain)} for name, chain in chains.items()])
        return
    print_table(
        ("template", "whose", "replaces", "file"),
        [
            (name, first.origin, ", ".join(f.origin for f in rest), str(first.path))
            for name, (first, *rest) in chains.items()
        ],
    )


@templates.command()
@click.argument("name", default="sbatch.sh.j2")
@click.option("--origin", is_flag=True, help="Where each of its blocks comes from, instead.")
@click.option("--variables", is_flag=True, help="What a template finds, instead.")
@place_options
@json_option
def show(
    name: str,
    origin: bool,
    variables: bool,
    given: str | None,
    target: str | None,
    as_json: bool,
) -> None:
    """Print a template (default: the main one), as it counts here."""
    if variables:
        rows = listing()
        if as_json:
            print_json([{"name": n, "type": kind, "about": about} for n, kind, about in rows])
        else:
            print_table(("name", "type", "is"), rows)
        return
    chain = find(_templates(open_assets(templates=given), target), name)
    blocks = [(block, found) for found in chain for block in blocks_of(found)]
    if as_json:
        told = [{**block._asdict(), **_told([found])[0]} for block, found in blocks]
        print_json({"name": name, "text": chain[0].text, "chain": _told(chain), "blocks": told})
    elif not origin:
        click.echo(chain[0].text, nl=False)
    else:
        places = [(b.name, f.origin, f"{f.path}:{b.line}", b.about) for b, f in blocks]
        whole = [("(all)", found.origin, str(found.path), "") for found in chain]
        print_table(("block", "whose", "place", "is"), places or whole)


@templates.command()
@click.argument("name")
@click.option(
    "--to", type=click.Path(path_type=Path), help="A folder of templates.  [default: the project's]"
)
@place_options
@json_option
def copy(
    name: str,
    to: Path | None,
    given: str | None,
    target: str | None,
    as_json: bool,
) -> None:
    """Copy a template, to be changed. One that changes a block needs no copy: it begins with
    {% extends "parent/NAME" %}, and has that block."""
    assets = open_assets(templates=given)
    text = find(_templates(assets, target), name)[0].text
    folder = to or (assets.project or Path(".hpcrun")) / "templates"
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        problem = Problem("it is there already", "remove it, or choose another folder", str(path))
        raise ConfigError(problem) from None
    except OSError as error:
        raise HpcrunError(f"{path}: {error.strerror}", "choose another folder") from error
    if as_json:
        print_json({"name": name, "path": str(path)})
    else:
        say(f"wrote {path}")


@templates.command("check")
@click.argument("names", nargs=-1)
@place_options
@json_option
def check_templates(
    names: tuple[str, ...],
    given: str | None,
    target: str | None,
    as_json: bool,
) -> int:
    """Look for all that is wrong with templates (default: all); the exit code is 4 if something is.

    The script of each launcher is rendered, and those of a job array; bash and shellcheck are asked
    about them.
    """
    assets = open_assets(templates=given)
    site, _ = choose_target(target, assets)
    checked = check(templates_of(site, assets), site, names)
    if not as_json:
        if checked.problems:
            raise TemplateError(*checked.problems)
        say(_summary(checked))
        return 0
    ordered = TemplateError(*checked.problems).problems if checked.problems else ()
    told = [problem._asdict() for problem in ordered]
    print_json({**checked._asdict(), "problems": told})
    return TemplateError.exit_code if told else 0


def _summary(checked: Checked) -> str:
    asked = "bash and shellcheck find" if checked.shellcheck else "bash finds"
    more = "" if checked.shellcheck else " (shellcheck is not installed)"
    return (
        f"{checked.overrides} overrides and {checked.scripts} scripts:"
        f" {asked} nothing wrong with them{more}"
    )


def _templates(assets: Assets, target: str | None) -> Templates:
    """Those that count for a site, which must be there."""
    site = load_site(split_target(target)[0], assets)
    return templates_of(site, assets)


def _told(chain: Sequence[Found]) -> list[dict[str, str]]:
    return [{"origin": found.origin, "file": str(found.path)} for found in chain]
