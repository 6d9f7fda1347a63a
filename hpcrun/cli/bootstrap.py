"""sites bootstrap: brings this very hpcrun to a cluster."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

import hpcrun
from hpcrun.cli.asking import agreed, tell_nothing_was_deleted
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, print_table, say, size_of
from hpcrun.workflow.settings import open_assets

if TYPE_CHECKING:
    from hpcrun.transport.bootstrap import Found, Shell


@click.command()
@click.argument("target")
@click.option("--yes", is_flag=True, help="Install, or remove, without asking.")
@click.option("--prune", is_flag=True, help="Remove versions there that nothing uses, instead.")
@json_option
def bootstrap(target: str, yes: bool, prune: bool, as_json: bool) -> int:
    """Install this very hpcrun on TARGET, in your own space there: docs/bootstrap.md.

    TARGET is a site, or a Host of your ssh configuration. The cluster needs no internet: the
    packages are fetched here. What is installed there already stays, with the jobs that use it.
    Exits with 1 if you do not agree.
    """
    from hpcrun.cli.remote import end_in_order
    from hpcrun.transport.bootstrap import Shell, probe
    from hpcrun.transport.channel import login_words
    from hpcrun.workflow.connection import cache
    from hpcrun.workflow.elsewhere import login_of

    end_in_order()
    login = login_of(target.partition("/")[0], open_assets())
    with Shell(login, login_words(login, cache())) as shell:
        found = probe(shell, login.access.python)
        return (_prune if prune else _install)(shell, found, yes, as_json)


def _install(shell: Shell, found: Found, yes: bool, as_json: bool) -> int:
    from hpcrun.transport.bootstrap import ROOT, install_name, send
    from hpcrun.transport.wheels import fetch, own_wheel

    site = shell.login.name
    with tempfile.TemporaryDirectory(prefix="hpcrun-wheels-") as folder:
        wheel = own_wheel(Path(folder))
        name = install_name(wheel, found)
        is_new, place = name not in found.there, f"{found.home}/{ROOT[2:]}/{name}"
        if found.current != name:
            if not as_json:
                say(f"{site}: {found.platform} ({found.python})")
            wheels = fetch(wheel, found.platform, Path(folder)) if is_new else []
            size = size_of(sum(file.stat().st_size for file in wheels))
            what = f"bring {len(wheels)} packages ({size}) and install" if is_new else "switch to"
            if not agreed(yes, f"{what} hpcrun {hpcrun.__version__} in {place}?"):
                say("nothing was written; --yes writes", err=True)
                return 1
            place = send(shell, found, name, wheels)
    done = found.current != name
    if as_json:
        told = {"site": site, "version": hpcrun.__version__, "folder": place}
        platform = {"python": found.python, "platform": str(found.platform)}
        print_json({**told, **platform, "installed": done and is_new, "switched": done})
    else:
        end = "is there now" if done else "is there already"
        say(f"hpcrun {hpcrun.__version__} {end}: {place}")
        say(f"a shell there finds it with: export PATH={ROOT}/current/bin:$PATH")
        others = len(found.there - {name})
        if others:
            are = "other version is" if others == 1 else "other versions are"
            say(f"{others} {are} there: `hpcrun site bootstrap {site} --prune` removes what can go")
    return 0


def _prune(shell: Shell, found: Found, yes: bool, as_json: bool) -> int:
    from hpcrun.transport.bootstrap import remove, versions

    there = versions(shell, found)
    going = [each for each in there if not each.why]
    if not as_json:
        rows = [(each.name, size_of(each.bytes), each.why or "goes") for each in there]
        if rows:
            print_table(("version", "size", ""), rows)
        else:
            say(f"there is no hpcrun in {found.home} on {shell.login.name}")
        size = size_of(sum(each.bytes for each in going))
        yes = bool(going) and agreed(yes, f"delete {len(going)} versions, {size}, for good?")
    gone = remove(shell, [each.name for each in going]) if yes and going else []
    if as_json:
        print_json({"deleted": gone, "versions": [each._asdict() for each in there]})
    elif gone:
        say(f"deleted {len(gone)} versions from {shell.login.name}")
    elif going:
        tell_nothing_was_deleted()
        return 1
    return 0
