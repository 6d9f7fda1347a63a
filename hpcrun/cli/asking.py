"""Asking before something is removed for good; the same words for every command that does."""

from __future__ import annotations

import click

from hpcrun.cli.output import at_terminal, say


def agreed(yes: bool, question: str) -> bool:
    """Whether to do it: by --yes, or by who sits at the terminal; if nobody does: no."""
    return yes or (at_terminal() and click.confirm(question))


def tell_nothing_was_deleted() -> None:
    """What follows a preview that nobody agreed to."""
    say("nothing was deleted; --yes deletes", err=True)
