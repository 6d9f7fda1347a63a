"""sites bootstrap: brings this very hpcrun to a cluster."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

import hpcrun
from hpcrun.cli.asking import agreed
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, say, size_of
from hpcrun.cli.progress import transfer
from hpcrun.workflow.session import open_assets


@click.command()
@click.argument("target")
@click.option("--yes", is_flag=True, help="Install without asking.")
@json_option
def bootstrap(target: str, yes: bool, as_json: bool) -> int:
    """Install this very hpcrun on TARGET, in your own space there: docs/bootstrap.md.

    TARGET is a site, or a Host of your ssh configuration. The cluster needs no internet: the
    packages are fetched here. What is installed there already stays, with the jobs that use it.
    Exits with 1 if you do not agree.
    """
    from hpcrun.cli.remote import cache
    from hpcrun.transport.bootstrap import ROOT, Shell, install_name, probe, send
    from hpcrun.transport.channel import login_words
    from hpcrun.transport.wheels import fetch, own_wheel
    from hpcrun.workflow.elsewhere import login_of

    login = login_of(target.partition("/")[0], open_assets())
    with (
        tempfile.TemporaryDirectory(prefix="hpcrun-wheels-") as folder,
        Shell(login, login_words(login, cache())) as shell,
    ):
        wheel = own_wheel(Path(folder))
        found = probe(shell, login.access.python)
        name = install_name(wheel, found)
        is_new, place = name not in found.there, f"{found.home}/{ROOT[2:]}/{name}"
        if found.current != name:
            if not as_json:
                say(f"{login.name}: {found.platform} ({found.python})")
            wheels = fetch(wheel, found.platform, Path(folder)) if is_new else []
            size = size_of(sum(file.stat().st_size for file in wheels))
            what = f"bring {len(wheels)} packages ({size}) and install" if is_new else "switch to"
            if not agreed(yes, f"{what} hpcrun {hpcrun.__version__} in {place}?"):
                say("nothing was written; --yes writes", err=True)
                return 1
            with transfer(f"to {login.name}") as progress:
                place = send(shell, found, name, wheels, progress)
    done = found.current != name
    if as_json:
        told = {"site": login.name, "version": hpcrun.__version__, "folder": place}
        platform = {"python": found.python, "platform": str(found.platform)}
        print_json({**told, **platform, "installed": done and is_new, "switched": done})
    else:
        end = "is there now" if done else "is there already"
        say(f"hpcrun {hpcrun.__version__} {end}: {place}")
        say(f"a shell there finds it with: export PATH={ROOT}/current/bin:$PATH")
    return 0
