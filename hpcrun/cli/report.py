"""report: what a bug report needs, without what is nobody's business."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import click

import hpcrun
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, run_object, say
from hpcrun.cli.scrub import Scrubber
from hpcrun.store.users import login_of
from hpcrun.workflow.session import open_session


@click.command()
@click.argument("run")
@json_option
@click.pass_obj
def report(workspace: str | None, run: str, as_json: bool) -> None:
    """Print a run's plan and verdict for a bug report. Names of people, values of variables and
    what looks like a secret are hidden, and what was hidden is told; file contents are not in it.
    Read it before you send it."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    record = session.record(run_id, user)
    paths = session.store.paths(run_id, user)
    script = session.store.script(paths)
    # In a workspace, a user's name may be longer than the login.
    login = login_of(Path(paths.owner.root).stat().st_uid)
    names = {str(Path.home()): "~", record.user: "USER", login: "USER"}
    if record.imported is not None:
        names[record.imported.user] = "USER"
    scrubber = Scrubber(names)
    choices = scrubber.choices(record.request.get("choices", ()))
    value = {
        "hpcrun": hpcrun.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "run": scrubber.scrub(run_object(record, paths)),
        "request": scrubber.scrub({**record.request, "choices": choices}),
        "script": scrubber.script(script).splitlines(),
    }
    hidden = dict(sorted(scrubber.hidden.items()))
    print_json({**value, "hidden": hidden})
    if not as_json:
        told = ", ".join(f"{what} ({count})" for what, count in hidden.items()) or "nothing"
        say(f"hidden: {told}; read the rest before you send it", err=True)
