"""there, give: what the Python API on another machine asks of this one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from hpcrun.cli.output import print_json
from hpcrun.errors import ConfigError, Problem
from hpcrun.state import State
from hpcrun.store.wanted import Wanted
from hpcrun.workflow.due import seal_later
from hpcrun.workflow.giving import give as given
from hpcrun.workflow.session import open_session
from hpcrun.workflow.side import Near

QUESTIONS = (
    *("find", "runs", "experiments", "experiment", "tell_experiment", "forget_experiment"),
    *("note", "cancel", "resubmit", "end"),
)
"""The methods of a `Side` that are asked for by name."""


@click.command(hidden=True)
@click.pass_obj
def there(workspace: str | None) -> None:
    """Answer a question about this workspace: standard input is JSON, its name and arguments."""
    name, arguments = _question(sys.stdin.read())
    session = open_session(given=workspace)
    side = Near(session)
    if name == "runs":
        print_json([*side.runs(_wanted(*arguments))])
        return
    print_json(getattr(side, name)(*arguments))
    if name == "resubmit":
        seal_later(session)


def _question(text: str) -> tuple[str, list[Any]]:
    """ConfigError: it is none."""
    try:
        name, *arguments = json.loads(text)
    except (ValueError, TypeError) as error:
        raise ConfigError(Problem(f"standard input is no question: {error}")) from error
    if name not in QUESTIONS:
        raise ConfigError(Problem(f"there is no question {name!r}"))
    return name, arguments


def _wanted(asked: Mapping[str, Any]) -> Wanted:
    wanted = Wanted(**asked)
    return wanted._replace(status=State(wanted.status)) if wanted.status else wanted


@click.command(hidden=True)
def give() -> None:
    """Print files, as far as whoever asks does not have them; standard input says what that is."""
    for piece in given(sys.stdin.read()):
        sys.stdout.buffer.write(piece)
