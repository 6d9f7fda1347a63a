"""receive: what another hpcrun asks of this one while it brings a snapshot."""

from __future__ import annotations

from typing import TextIO

import click

from hpcrun.cli.output import say
from hpcrun.store.policy import read_policy
from hpcrun.workflow.receive import STEPS, received
from hpcrun.workflow.session import open_session


@click.command(hidden=True)
@click.argument("step", type=click.Choice(STEPS))
@click.argument("text", type=click.File("r", encoding="utf-8"), default="-")
@click.option("--private/--shared", default=None, help="Whose store; default: the policy's.")
@click.pass_obj
def receive(workspace: str | None, step: str, text: TextIO, private: bool | None) -> None:
    """Do one step of a push; TEXT (or standard input) tells it, and JSON is printed."""
    store = open_session(given=workspace).store
    own = read_policy(store.workspace).private if private is None else private
    say(received(step, text.read(), store, own))
