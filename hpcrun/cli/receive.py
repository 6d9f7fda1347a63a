"""receive: what another hpcrun asks of this one while it brings a snapshot."""

from __future__ import annotations

from typing import TextIO

import click

from hpcrun.cli import served
from hpcrun.cli.output import say
from hpcrun.workflow.receive import STEPS, received
from hpcrun.workflow.session import open_session


@click.command(hidden=True)
@click.argument("step", type=click.Choice(STEPS))
@click.argument("text", type=click.File("r", encoding="utf-8"), default="-")
@click.option("--private", is_flag=True, help="Into the store of private runs.")
@click.pass_obj
def receive(workspace: str | None, step: str, text: TextIO, private: bool) -> None:
    """Do one step of a push; TEXT (or standard input) tells it, and JSON is printed.

    Where it is asked over the line of `serve`, the text comes along under the name of the step.
    """
    told = served.texts().get(step)
    store = open_session(given=workspace).store
    say(received(step, text.read() if told is None else told, store, private))
